"""Topic `clicks.schemas`, read into a registry; and records that are appended to a topic again."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence

import structlog
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from infra.settings import Settings
from infra.topics import unreachable
from storage.errors import LogError
from storage.formats.schemas import SchemaRegistry
from storage.sink.consumer import TIMEOUT, config, watermarks_of

log = structlog.get_logger()


class SchemaTopic:
    """Reads topic `clicks.schemas` into a registry, from its beginning."""

    def __init__(self, settings: Settings, registry: SchemaRegistry) -> None:
        self._settings, self._topic, self._registry = settings, settings.kafka.schemas_topic, registry
        self._consumer = Consumer(config(settings, f"{settings.sink.group}-schemas"))
        self._next: dict[int, int] = {}

    def refresh(self) -> None:
        """Adds the schemas published since the last call. Raises LogError if the topic can't be read within 15 s."""
        if not self._next:
            self._next = dict.fromkeys(self._partitions(), 0)
            self._consumer.assign([TopicPartition(self._topic, p, OFFSET_BEGINNING) for p in self._next])
        ends = {p: watermarks_of(self._consumer, TopicPartition(self._topic, p))[1] for p in self._next}
        deadline = time.monotonic() + TIMEOUT
        while any(self._next[p] < end for p, end in ends.items()):
            if time.monotonic() > deadline:
                raise LogError(f"Kafka: {self._topic} can't be read to its end {ends}, only to {self._next}")
            message = self._consumer.poll(0.2)
            if message is not None:
                self._add(message)

    def _add(self, message: Message) -> None:
        error = message.error()
        if error is not None:
            if error.code() == KafkaError._PARTITION_EOF:
                self._next[message.partition() or 0] = message.offset() or 0
            elif error.fatal() or error.code() == KafkaError._AUTO_OFFSET_RESET:
                raise LogError(f"Kafka: {self._topic}: {error.str()}")
            return
        self._next[message.partition() or 0] = (message.offset() or 0) + 1
        try:
            self._registry.add(json.loads(message.value() or b""))
        except Exception as problem:  # fastavro has no common error for a wrong schema
            log.error("not_a_schema", topic=self._topic, offset=message.offset(), error=repr(problem))

    def _partitions(self) -> list[int]:
        try:
            topic = self._consumer.list_topics(self._topic, timeout=TIMEOUT).topics[self._topic]
        except KafkaException as error:
            raise unreachable(self._settings, error) from error
        if topic.error is not None or not topic.partitions:
            raise LogError(f"Kafka: {self._topic}: {topic.error}")
        return sorted(topic.partitions)

    def close(self) -> None:
        self._consumer.close()


def append(settings: Settings, topic: str, values: Sequence[tuple[bytes | None, bytes]]) -> None:
    """Appends (key, value) records to a topic and waits until all are acknowledged. Raises LogError."""
    from ingest.delivery.publisher import producer_config  # the sink appends nothing

    producer = Producer(producer_config(settings) | {"delivery.timeout.ms": int(TIMEOUT * 1000)})
    failed: list[str] = []
    for key, value in values:
        while True:
            try:
                producer.produce(
                    topic, value, key, on_delivery=lambda error, _: failed.append(str(error)) if error else None
                )
                break
            except BufferError:
                producer.poll(0.1)
    if producer.flush(2 * TIMEOUT) or failed:
        raise LogError(f"Kafka: {topic} has not taken all records: {failed[0] if failed else 'no answer'}")
