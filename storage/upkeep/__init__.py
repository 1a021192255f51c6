"""Upkeep of landed files: compaction, retention, redriving of quarantine, erasure of people."""
