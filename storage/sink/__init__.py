"""The sink: ownership of partitions, reading from Kafka, filling files, and publishing each exactly once."""
