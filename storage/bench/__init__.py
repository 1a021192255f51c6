"""Benches: how fast records land, and what ledger and audit cost, beside peers."""
