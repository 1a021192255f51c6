"""Airflow's REST API, and the keys of an installation of our own."""
