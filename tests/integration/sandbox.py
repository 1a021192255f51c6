"""Corners of the shared servers that one test has for itself, and records to fill them with."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from confluent_kafka import Producer

from infra.settings import Settings
from infra.topics import ensure_topics
from ingest import codec
from ingest.events import ClickEvent, Source, event_id
from storage.hdfs import Hdfs
from storage.metrics import SinkMetrics
from storage.sink import run


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


def event(message: str) -> bytes:
    """A page view as Kafka's value; `message` is its message_id."""
    return codec.encode(
        ClickEvent(
            event_id=event_id("demo", message),
            message_id=message,
            event_type="page_view",
            occurred_at=1_431_857_100_000,
            received_at=1_431_857_101_000,
            write_key="demo",
            source=Source(protocol="native"),
        )
    )


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


class RunningSink:
    """A sink in a thread of this process; `failure` is what ended it, if anything did."""

    def __init__(self, settings: Settings) -> None:
        self.metrics, self.failure = SinkMetrics(), None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(settings,))
        self._thread.start()

    def _run(self, settings: Settings) -> None:
        try:
            run(settings, Hdfs(settings), self.metrics, self._stop)
        except BaseException as error:
            self.failure: BaseException | None = error

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(60)
        assert not self._thread.is_alive()

    def value(self, name: str, **labels: str) -> float:
        """A metric's value, 0 when it has none."""
        return self.metrics.registry.get_sample_value(f"clickstream_sink_{name}", labels) or 0.0


@contextmanager
def running_sink(settings: Settings) -> Iterator[RunningSink]:
    """Stops it at the end; a failure of it fails the test."""
    sink = RunningSink(settings)
    try:
        yield sink
    finally:
        sink.stop()
    if sink.failure:
        raise sink.failure
