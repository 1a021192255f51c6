"""Fakes at the I/O boundary, shared by all tests. Each behaves as the real thing does where a test looks."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from confluent_kafka import KafkaError, KafkaException

from ingest.errors import PublishError
from ingest.publisher import PublisherState, Way
from ingest.spool import Record


class FakeExports:
    """The web app's ExportReader over exports in memory; `failure`, when set, is what every call raises."""

    def __init__(self, exports: Mapping[str, Any] | None = None, current: str | None = None) -> None:
        self.exports: dict[str, Any] = dict(exports or {})
        self.current = current
        self.failure: Exception | None = None
        self.loads: list[str] = []

    def current_version(self) -> str | None:
        self._fail()
        return self.current

    def load(self, version: str) -> Any:
        self._fail()
        self.loads.append(version)
        return self.exports[version]

    def publish(self, version: str, export: Any) -> None:
        self.exports[version] = export
        self.current = version

    def _fail(self) -> None:
        if self.failure:
            raise self.failure


class FakePublisher:
    """The collector's Publisher in memory; `failure`, when set, is what publish raises."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.failure: PublishError | None = None
        self.current = PublisherState(kafka_up=True, spooled=0, accepting=True)

    def publish(self, records: Sequence[Record]) -> Way:
        if self.failure is not None:
            raise self.failure
        self.records += records
        return "kafka"

    def state(self) -> PublisherState:
        return self.current

    def close(self) -> None:
        pass

    def on(self, topic: str) -> list[bytes]:
        """The values published to a topic."""
        return [record.value for record in self.records if record.topic == topic]


class FakeProducer:
    """librdkafka's producer against a broker in memory.

    `down` lets every record time out, `hangs` lets it wait for ever, `too_large` bounds them.
    """

    def __init__(self, log: list[Record]) -> None:
        self.log = log
        self.down = self.hangs = False
        self.too_large = 1_000_000
        self._reports: deque[Callable[[], None]] = deque()

    def produce(self, topic: str, value: bytes, key: bytes | None, on_delivery: Callable[[Any, Any], None]) -> None:
        record = Record(topic, key, value)
        code = None
        if self.hangs:
            return
        if self.down:
            code = KafkaError._MSG_TIMED_OUT
        elif len(value) > self.too_large:
            code = KafkaError.MSG_SIZE_TOO_LARGE
        else:
            self.log.append(record)
        error = None if code is None else KafkaError(code)
        self._reports.append(lambda: on_delivery(error, FakeMessage(record)))

    def poll(self, timeout: float) -> int:
        if not self._reports:
            time.sleep(0.001)
        count = len(self._reports)
        for _ in range(count):
            self._reports.popleft()()
        return count

    def flush(self, timeout: float) -> int:
        return self.poll(timeout)

    def purge(self) -> None:
        pass

    def __len__(self) -> int:
        return len(self._reports)

    def list_topics(self, timeout: float) -> None:
        if self.down:
            raise KafkaException(KafkaError(KafkaError._TRANSPORT))


class FakeMessage:
    """What a delivery report tells of its record."""

    def __init__(self, record: Record) -> None:
        self._record = record

    def topic(self) -> str:
        return self._record.topic

    def key(self) -> bytes | None:
        return self._record.key

    def value(self) -> bytes:
        return self._record.value
