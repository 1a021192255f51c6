"""Messages of every protocol -> Kafka records, with the outcome of each message. Pure."""
