"""The event: its fields, its encoding, its enrichment, and the removal of private data. Pure."""
