"""Recommenders, click models and jobs measured on data of your own."""
