"""Corners of the shared servers that one test has for itself, and records to fill them with."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import requests
from confluent_kafka import Producer

from infra.settings import Settings
from infra.topics import ensure_topics
from ingest import codec
from ingest.events import ClickEvent, Source, event_id
from storage.hdfs import Hdfs
from storage.metrics import SinkMetrics
from storage.sink import run
from tests.waiting import eventually


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


@dataclass
class RunningCollector:
    """A collector that runs as the product starts it."""

    address: str
    process: subprocess.Popen[bytes]
    log_file: Path
    verify: bool | str = True

    def workers(self) -> set[int]:
        """Their pids."""
        return {process.pid for process in self.processes()[1:]}

    def log(self) -> str:
        return self.log_file.read_text(errors="replace")

    def processes(self) -> list[psutil.Process]:
        """The server and its workers."""
        server = psutil.Process(self.process.pid)
        return [server, *sorted(server.children(recursive=True), key=lambda process: process.pid)]

    def healthy(self) -> bool:
        assert self.process.poll() is None, self.log()
        try:
            return requests.get(f"{self.address}/readyz", timeout=1, verify=self.verify).ok
        except requests.RequestException:
            return False


@contextmanager
def running_collector(settings: Settings, stdin: socket.socket | None = None) -> Iterator[RunningCollector]:
    """Stops it at the end; a traceback in its log fails the test. `stdin`: a listening socket that it is to take."""
    command = [sys.executable, "-c", "from infra.cli import main; main()", "collector"]
    log = settings.home / "collector.log"
    environment = os.environ | settings.to_env()
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as out:
        process = subprocess.Popen(
            command,
            cwd=Path(__file__).parents[2],
            env=environment,
            stdin=stdin or subprocess.DEVNULL,
            stdout=out,
            stderr=out,
        )
    running = RunningCollector(settings.collector.address, process, log, settings.collector.verify)
    try:
        eventually(running.healthy)
        eventually(lambda: running.log().count("Started worker") == settings.collector.workers)
        yield running
    finally:
        process.terminate()
        process.wait(30)
    assert "Traceback" not in running.log(), running.log()
