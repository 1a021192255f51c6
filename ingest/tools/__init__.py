"""Senders and readers around the collector: replay a log, simulate shoppers, tail a topic."""
