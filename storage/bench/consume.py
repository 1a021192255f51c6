"""The limit for the sink: consumes the topic with the sink's configuration and drops the records.

Run as `python -m storage.bench.consume COUNT` with the settings in the environment; prints a line when it is done.
"""

from __future__ import annotations

import sys

from confluent_kafka import Consumer, TopicPartition

from infra.errors import ServiceError
from infra.settings import Settings
from storage.sink.consumer import config

_BATCH = 1_000
_PATIENCE_SECONDS = 30.0


def main() -> None:
    count, settings = int(sys.argv[1]), Settings.from_env()
    consumer = Consumer(config(settings, settings.sink.group) | {"enable.partition.eof": False})
    partitions = [TopicPartition(settings.kafka.topic, p, 0) for p in range(settings.kafka.partitions)]
    consumer.assign(partitions)
    seen = 0
    while seen < count:
        messages = consumer.consume(_BATCH, _PATIENCE_SECONDS)
        if not messages:
            raise ServiceError("kafka", f"only {seen:,} of {count:,} records came")
        seen += len(messages)
    read = sum(at.offset for at in consumer.position(partitions))
    sys.stdout.write(f"{read}\n")
    sys.stdout.flush()
    consumer.close()


if __name__ == "__main__":
    main()
