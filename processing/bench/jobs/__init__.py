"""Durations of jobs on synthetic events, beside DuckDB."""
