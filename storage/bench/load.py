"""Generates and produces the bench's events: with ids of their own, encoded as in the collector, and as JSON."""

from __future__ import annotations

import json
import random
import uuid
from collections.abc import Iterator, Sequence
from typing import Any

import confluent_kafka
import msgspec

from infra import topics
from infra.errors import ServiceError
from infra.settings import Settings
from ingest.bench.load import event
from ingest.delivery.publisher import producer_config, schema_record
from ingest.event import codec
from ingest.event.context import Context
from ingest.event.event import ClickEvent, as_dict, event_id
from ingest.protocols.native import parse

_RECEIVED_MS = 1_795_000_000_000
_MODELS = 10_000  # more than an Avro block holds: a repetition within a block would be compressed away
_WAIT_SECONDS = 120
_PATIENT = {
    "linger.ms": 20,
    "delivery.timeout.ms": _WAIT_SECONDS * 1000,
    "log_level": 3,
}  # single acknowledgements are not waited for
_AGENT = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/138.0.0.0"


def events(count: int, seed: int = 7, models: int = _MODELS) -> Iterator[ClickEvent]:
    """Events of a shop, the same at every call; after `models` of them everything but the two ids repeats."""
    rng = random.Random(seed)
    context = Context("bench", _RECEIVED_MS, user_agent=_AGENT, ip="192.0.2.0")
    made = [parse(event(rng, _RECEIVED_MS) | _signed_in(rng), context) for _ in range(min(count, models))]
    for number in range(count):
        message = _uuid(rng)
        names = {"message_id": message, "event_id": event_id("bench", message)}
        yield msgspec.structs.replace(made[number % len(made)], **names)


def _signed_in(rng: random.Random) -> dict[str, Any]:
    return {"user_id": _uuid(rng), "client_session_id": _uuid(rng), "model_version": f"als-{rng.randrange(100):05d}"}


def _uuid(rng: random.Random) -> str:
    return str(uuid.UUID(int=rng.getrandbits(128), version=4))


def produce(settings: Settings, count: int, json_topic: str = "") -> set[str]:
    """Produces the schema and the events to the topics of `settings`, and to `json_topic` if given; returns the ids.

    The topics must be new. Raises ServiceError unless they then hold exactly these records.
    """
    producer = _producer_with_schema(settings)
    ids: set[str] = set()
    for made in events(count):
        ids.add(made.event_id)
        _send(producer, settings.kafka.topic, codec.encode(made), made.key)
        if json_topic:
            _send(producer, json_topic, as_json(made), made.key)
    _flush(producer, settings, count, json_topic)
    return ids


def produce_evenly(settings: Settings, values: Sequence[bytes]) -> None:
    """Produces the schema, and all values to each partition of the topic, which must be new. Raises ServiceError."""
    producer = _producer_with_schema(settings)
    for value in values:
        for partition in range(settings.kafka.partitions):
            _send(producer, settings.kafka.topic, value, None, partition)
    _flush(producer, settings, len(values) * settings.kafka.partitions)


def _producer_with_schema(settings: Settings) -> Any:
    producer = confluent_kafka.Producer(producer_config(settings) | _PATIENT)
    schema = schema_record(settings)
    _send(producer, schema.topic, schema.value, schema.key)
    return producer


def _flush(producer: Any, settings: Settings, count: int, json_topic: str = "") -> None:
    producer.flush(_WAIT_SECONDS)
    for topic in filter(None, (settings.kafka.topic, json_topic)):
        stored = sum(topics.end_offsets(settings, topic).values())
        if stored != count:
            raise ServiceError("kafka", f"topic {topic} holds {stored:,} records, not {count:,}")


def as_json(made: ClickEvent) -> bytes:
    """An event as compact JSON without empty fields."""
    present = {name: value for name, value in as_dict(made).items() if value not in (None, {}, ())}
    return json.dumps(present, separators=(",", ":")).encode()


def _send(producer: Any, topic: str, value: bytes, key: bytes | None, partition: int = -1) -> None:
    while True:
        try:
            producer.produce(topic, value, key, partition)
            return
        except BufferError:
            producer.poll(0.1)
