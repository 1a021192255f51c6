"""Corners of the shared servers that one test has for itself, and records to fill them with."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from typing import Any

from confluent_kafka import Producer

from infra.settings import Settings
from infra.topics import ensure_topics
from ingest.event import codec


def own_corner(cluster: Settings, partitions: int = 2, **sink: Any) -> Settings:
    """Settings of the running servers with a topic, a group and an HDFS root of their own."""
    name = f"t{uuid.uuid4().hex[:8]}"
    fast = {"group": name, "cut_poll_seconds": 0.1, **sink}
    return cluster.model_copy(
        update={
            "kafka": cluster.kafka.model_copy(update={"topic": name, "partitions": partitions}),
            "hdfs": cluster.hdfs.model_copy(update={"root": f"/{name}"}),
            "sink": cluster.sink.model_copy(update=fast),
        }
    )


def own_topics(cluster: Settings, partitions: int = 2, **sink: Any) -> Settings:
    """The same, with the topics created."""
    settings = own_corner(cluster, partitions, **sink)
    ensure_topics(settings)
    return settings


def produce(
    settings: Settings, partition: int, values: Sequence[bytes | None], topic: str = "", key: bytes | None = None
) -> None:
    """Appends to one partition, in order, and waits until all are acknowledged."""
    producer = Producer({"bootstrap.servers": settings.kafka.address, "enable.idempotence": True})
    failed: list[Any] = []
    for value in values:
        producer.produce(
            topic or settings.kafka.topic,
            value,
            key,
            partition=partition,
            on_delivery=lambda error, _: failed.append(error) if error else None,
        )
    assert (producer.flush(30), failed) == (0, [])


def produce_transaction(settings: Settings, partition: int, values: Sequence[bytes], commit: bool = True) -> None:
    """The same in one transaction, which takes one more offset for its marker."""
    producer = Producer({"bootstrap.servers": settings.kafka.address, "transactional.id": uuid.uuid4().hex})
    producer.init_transactions(30)
    producer.begin_transaction()
    for value in values:
        producer.produce(settings.kafka.topic, value, partition=partition)
    producer.flush(30)
    if commit:
        producer.commit_transaction(30)
    else:
        producer.abort_transaction(30)


def publish_schema(settings: Settings, schema: dict[str, Any] = codec.SCHEMA) -> None:
    key = codec.schema_fingerprint(schema).hex().encode()
    produce(settings, 0, [json.dumps(schema).encode()], settings.kafka.schemas_topic, key)
