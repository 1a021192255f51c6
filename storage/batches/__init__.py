"""Batches: the cuts between them, the ledger of each, its gates, and the walk over all history."""
