"""A job's frame: its arguments and session, one run at a time, and which code runs."""
