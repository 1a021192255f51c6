"""The Iceberg tables: their schemas, how rows are checked and published, and their upkeep."""
