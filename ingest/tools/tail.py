"""Reads and decodes a topic of the platform, for people and for tests.

The only module of ingest that imports kafka-python.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from infra.errors import ServiceError
from infra.settings import Settings
from infra.topics import client_config, unreachable
from ingest.errors import CodecError
from ingest.event import codec
from ingest.event.event import as_dict

if TYPE_CHECKING:
    from kafka import KafkaConsumer


@dataclass(frozen=True, slots=True)
class Seen:
    """A record and its decoded value; `problem` is set if it can't be decoded."""

    partition: int
    offset: int
    key: str | None
    value: dict[str, Any]
    problem: str | None = None

    def as_dict(self) -> dict[str, Any]:
        document = {"partition": self.partition, "offset": self.offset, "key": self.key, "value": self.value}
        return document | ({"problem": self.problem} if self.problem else {})


def tail(settings: Settings, topic: str, *, from_beginning: bool = False, follow: bool = True) -> Iterator[Seen]:
    """Records of `topic` as they come; without `follow` up to its current end. Raises ServiceError."""
    schemas = read_schemas(settings) if topic == settings.kafka.topic else {}
    with _consumer(settings) as consumer:
        ends = _assign(consumer, topic, from_beginning)
        while follow or any(consumer.position(partition) < end for partition, end in ends.items()):
            for partition, records in consumer.poll(timeout_ms=500).items():
                for record in records:
                    if not follow and record.offset >= ends[partition]:
                        continue
                    if topic == settings.kafka.topic and _is_unknown(record.value, schemas):
                        schemas |= read_schemas(settings)
                    yield _decode(record, topic == settings.kafka.topic, schemas)


def read_schemas(settings: Settings) -> dict[bytes, dict[str, Any]]:
    """fingerprint -> schema of all versions that collectors published."""
    found: dict[bytes, dict[str, Any]] = {}
    for seen in tail(settings, settings.kafka.schemas_topic, from_beginning=True, follow=False):
        if seen.key and not seen.problem:
            found[bytes.fromhex(seen.key)] = seen.value
    return found


def _assign(consumer: KafkaConsumer, topic: str, from_beginning: bool) -> dict[Any, int]:
    """Assigns all partitions, without a group; returns their end offsets."""
    from kafka import TopicPartition

    numbers = consumer.partitions_for_topic(topic)
    if not numbers:
        raise ServiceError("kafka", f"there is no topic {topic}")
    partitions = [TopicPartition(topic, number) for number in sorted(numbers)]
    consumer.assign(partitions)
    if from_beginning:
        consumer.seek_to_beginning(*partitions)
    else:
        consumer.seek_to_end(*partitions)
    ends: dict[Any, int] = consumer.end_offsets(partitions)
    return ends


def _is_unknown(value: bytes | None, schemas: Mapping[bytes, Any]) -> bool:
    try:
        fingerprint, _ = codec.split(value or b"")
    except CodecError:
        return False
    return fingerprint != codec.FINGERPRINT and fingerprint not in schemas


def _decode(record: Any, is_event: bool, schemas: Mapping[bytes, Mapping[str, Any]]) -> Seen:
    key = record.key.decode(errors="backslashreplace") if record.key is not None else None
    raw = record.value or b""
    try:
        value = as_dict(codec.decode(raw, schemas)) if is_event else json.loads(raw)
    except (CodecError, ValueError) as error:
        return Seen(record.partition, record.offset, key, {"raw": raw[:200].hex()}, str(error))
    return Seen(record.partition, record.offset, key, value)


@contextmanager
def _consumer(settings: Settings) -> Iterator[KafkaConsumer]:
    from kafka import KafkaConsumer
    from kafka.errors import KafkaError

    consumer = None
    try:
        consumer = KafkaConsumer(
            **client_config(settings), group_id=None, bootstrap_timeout_ms=5_000, allow_auto_create_topics=False
        )
        yield consumer
    except KafkaError as error:
        raise unreachable(settings, error) from error
    finally:
        if consumer is not None:
            consumer.close()
