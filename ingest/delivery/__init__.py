"""Durable delivery to Kafka: the producer, its delivery reports, and the spool for outages."""
