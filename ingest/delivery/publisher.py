"""Publishes records to Kafka, or to the spool while Kafka is away; `publish` returns only when all are durable.

Disk space in the spool is reserved before records are sent to Kafka: those that Kafka does not acknowledge in time are
spooled, so that no record is answered as failed and found in Kafka later. When Kafka is found away, records in flight
are spooled at once. Background threads serve librdkafka's delivery reports, check the spool's space, and drain the
spool, oldest first, in one of the processes that share it. The only module of ingest that imports confluent_kafka.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import confluent_kafka
import structlog
from confluent_kafka import KafkaError, KafkaException

from infra.settings import Settings
from ingest.delivery.record import Record
from ingest.delivery.reports import Failure, Reports
from ingest.delivery.spool import Spool
from ingest.errors import PublishError
from ingest.event import codec

DRAIN_RECORDS = 500
_LOOK_SECONDS = 0.2
_log = structlog.get_logger()

Way = Literal["kafka", "spool"]  # how records became durable; "spool" if any of them is there


@dataclass(frozen=True, slots=True)
class PublisherState:
    """`kafka_up`: by the last attempt. `accepting`: whether publish would work. `spooled` records wait on disk, in
    `spooled_bytes`, the oldest for `oldest_seconds`. `in_flight` calls wait for Kafka to acknowledge `queued` records.
    """

    kafka_up: bool
    spooled: int
    accepting: bool
    spooled_bytes: int = 0
    oldest_seconds: float = 0.0
    in_flight: int = 0
    queued: int = 0


class Publisher(Protocol):
    """Makes the collector's records durable."""

    def publish(self, records: Sequence[Record]) -> Way:
        """Returns when all records are durable, and how.

        Raises PublishError when none was taken: the caller keeps them.
        """

    def state(self) -> PublisherState: ...

    def close(self) -> None: ...


def schema_record(settings: Settings) -> Record:
    """The record of this version's schema, keyed by its fingerprint."""
    return Record(settings.kafka.schemas_topic, codec.FINGERPRINT.hex().encode(), json.dumps(codec.SCHEMA).encode())


class KafkaPublisher:
    """A Publisher with a Kafka producer and a spool; it publishes the schema before the first event."""

    def __init__(
        self,
        settings: Settings,
        make_producer: Callable[[dict[str, Any]], Any] = confluent_kafka.Producer,
        drain_interval: float = 0.5,
    ) -> None:
        """Does not wait for Kafka. `drain_interval`: seconds between attempts to drain. Raises PublishError."""
        collector = settings.collector
        self._spool = Spool(
            settings.home / "spool" / "collector.db",
            collector.spool_max_bytes,
            headroom=min(collector.spool_headroom_bytes, collector.spool_max_bytes // 2),
            processes=collector.workers + 1,  # while one is replaced there are two
            max_age_seconds=collector.spool_max_age_seconds,
        )
        self._schema = schema_record(settings)
        self._schema_acked = self._schema_spooled = False
        self._config = producer_config(settings) | {"error_cb": self._on_error}
        self._make_producer, self._drain_interval = make_producer, drain_interval
        self._report_timeout = collector.ack_timeout_seconds
        self._producer = make_producer(self._config)
        self._up, self._fatal = True, False
        self._waiting: set[Reports] = set()
        self._no_room: PublishError | None = None  # why the spool had no space at the last check
        self._look()
        self._closing = threading.Event()
        self._stop_polling = threading.Event()
        self._threads = [
            threading.Thread(target=target, name=f"publisher-{target.__name__.strip('_')}", daemon=True)
            for target in (self._drain_loop, self._look_loop, self._poll_loop)
        ]
        for thread in self._threads:
            thread.start()

    def publish(self, records: Sequence[Record]) -> Way:
        """Returns when every record is acknowledged by Kafka or fsynced in the spool.

        Raises PublishError when there is no room, before anything is sent.
        """
        if not self._up:
            self._to_spool(records)
            return "spool"
        with self._room_for(records):
            failures = self._deliver(records)
            if not failures:
                return "kafka"
            unreachable = [failure for failure in failures if not failure.refused]
            if unreachable:
                self._mark_down(unreachable[0].reason)
            # Records that Kafka refuses are spooled too: draining sets them aside for the operator.
            self._to_spool([failure.record for failure in failures], promised=True)
            return "spool"

    def state(self) -> PublisherState:
        waiting = self._spool.state()
        return PublisherState(
            kafka_up=self._up,
            spooled=waiting.records,
            accepting=self._no_room is None if self._spool.enabled else self._up,
            spooled_bytes=waiting.bytes,
            oldest_seconds=waiting.oldest_seconds,
            in_flight=len(self._waiting),
            queued=len(self._producer),
        )

    def close(self) -> None:
        """Ends the threads; spooled records stay for the next start."""
        *workers, poll = self._threads
        self._closing.set()
        for thread in workers:
            thread.join(self._report_timeout + 5)
        self._producer.flush(self._report_timeout)
        self._stop_polling.set()
        poll.join(5)
        self._spool.close()

    @contextmanager
    def _room_for(self, records: Sequence[Record]) -> Iterator[None]:
        if not self._spool.enabled:
            yield
            return
        if self._no_room is not None:
            raise self._no_room
        with self._spool.reserve(records, self._report_timeout):
            yield

    def _look_loop(self) -> None:
        while not self._closing.wait(_LOOK_SECONDS):
            self._look()

    def _look(self) -> None:
        """Checks that the spool has the space that `publish` relies on."""
        if not self._spool.enabled:
            return
        try:
            self._spool.check_room()
        except PublishError as error:
            if self._no_room is None:
                _log.error("spool_has_no_room", reason=str(error))
            self._no_room = error
        else:
            self._no_room = None

    def _deliver(self, records: Sequence[Record], patient: bool = False) -> list[Failure]:
        """Sends to Kafka and waits for the reports, after the schema, which is sent once per process.

        Unless `patient`, stops waiting when Kafka is found away.
        """
        if not self._schema_acked:
            failures = self._send([self._schema], patient)
            if failures:
                return [Failure(record, failures[0].reason, refused=False) for record in records]
            self._schema_acked = True
        return self._send(records, patient)

    def _send(self, records: Sequence[Record], patient: bool) -> list[Failure]:
        produce, reports = self._producer.produce, Reports(len(records))
        on_delivery = reports.on_delivery
        deadline = time.monotonic() + self._report_timeout
        for record in records:
            while True:
                try:
                    produce(record.topic, record.value, record.key, on_delivery=on_delivery)
                except BufferError:  # librdkafka's queue is full: wait for delivery reports
                    if time.monotonic() < deadline and (self._up or patient) and not self._closing.is_set():
                        time.sleep(0.005)
                        continue
                    reports.add(Failure(record, "the producer's queue is full", refused=False))
                except KafkaException as error:
                    reports.add(Failure.of(record, error.args[0]))
                break
        if not patient:
            self._waiting.add(reports)
            if not self._up:  # _mark_down has just gone through the waiting reports
                reports.give_up()
        complete = reports.wait(max(0.0, deadline - time.monotonic()))
        self._waiting.discard(reports)
        if not complete:
            return [Failure(record, "no delivery report came", refused=False) for record in records]
        return reports.failures

    def _to_spool(self, records: Sequence[Record], promised: bool = False) -> None:
        first = [] if self._schema_spooled or self._schema_acked else [self._schema]
        self._spool.append([*first, *records], promised)
        self._schema_spooled = True

    def _drain_loop(self) -> None:
        while not self._closing.wait(self._drain_interval):
            try:
                self._drain()
            except Exception as error:  # e.g. a full disk: the thread must go on
                _log.error("spool_drain_failed", error=repr(error))

    def _drain(self) -> None:
        """Sends the spool to Kafka as far as possible, unless another process is draining it."""
        if self._fatal:
            self._replace_producer()
        was_down = not self._up
        if was_down and not self._kafka_answers():
            return
        with self._spool.draining() as mine:
            still_up = not mine or self._empty()
        if was_down and still_up:  # if not, a publish may have found Kafka down meanwhile
            self._mark_up()

    def _empty(self) -> bool:
        """Sends all spooled records; returns False if Kafka went away meanwhile."""
        while not self._closing.is_set():
            waiting = self._spool.oldest(DRAIN_RECORDS)
            if not waiting:
                break
            failures = {
                failure.record: failure for failure in self._deliver([record for _, record in waiting], patient=True)
            }
            self._spool.delete([id_ for id_, record in waiting if record not in failures])
            kept = [(id_, failures[record]) for id_, record in waiting if record in failures]
            for id_, failure in kept:
                if failure.refused:
                    _log.error("record_refused", topic=failure.record.topic, reason=failure.reason)
                    self._spool.set_aside(id_, failure.reason)
            again = [failure for _, failure in kept if not failure.refused]
            if again:
                self._mark_down(again[0].reason)
                return False
            self._mark_up()
        return True

    def _kafka_answers(self) -> bool:
        try:
            self._producer.list_topics(timeout=1)
        except KafkaException:
            return False
        return True

    def _replace_producer(self) -> None:
        """Replaces the producer: after a fatal error an idempotent one is of no use. Its records go to the spool."""
        old, self._producer = self._producer, self._make_producer(self._config)
        self._fatal = False
        old.purge()
        old.flush(5)

    def _poll_loop(self) -> None:
        while not self._stop_polling.is_set():
            self._producer.poll(0.1)

    def _on_error(self, error: KafkaError) -> None:
        if error.fatal():
            self._fatal = True
        if error.fatal() or error.code() == KafkaError._ALL_BROKERS_DOWN:
            self._mark_down(error.str())

    def _mark_down(self, reason: str) -> None:
        """Switches to the spool, also for records in flight. Kafka may have those too: event ids tell duplicates."""
        if self._up:
            self._up = False
            _log.warning("kafka_down", reason=reason)
            for reports in list(self._waiting):
                reports.give_up()

    def _mark_up(self) -> None:
        if not self._up:
            self._up = True
            _log.info("kafka_up", spooled=len(self._spool))


def producer_config(settings: Settings) -> dict[str, Any]:
    """librdkafka's configuration; kafka.properties can't override what durability and order depend on."""
    return {
        "client.id": "clickstream-collector",
        # Measured with 16 waiting threads: 2.4 times the single requests of linger.ms 3. Fewer requests in flight are
        # larger, and librdkafka's thread spins while all that it may have are out: 1.6 times the events in batches
        # of 5.
        "linger.ms": 1,
        "max.in.flight.requests.per.connection": 2,
        "compression.type": "lz4",  # with zstd, kafka-python's consumers would need another package
        "log.connection.close": False,
        "reconnect.backoff.ms": 500,
        "reconnect.backoff.max.ms": 2000,
        **settings.kafka.properties,
        "bootstrap.servers": settings.kafka.address,
        "acks": "all",
        "enable.idempotence": True,  # or a broker's restart duplicates events
        "partitioner": "murmur2_random",  # as Java's clients, so that a key's partition is the same for all
        # Records not acknowledged by then are in the spool: to go on sending them would only duplicate them.
        "delivery.timeout.ms": max(1000, int(settings.collector.ack_timeout_seconds * 1000)),
    }
