"""Rejected records: list them, fix them and send them again."""
