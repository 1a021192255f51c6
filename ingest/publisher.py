"""Records to Kafka, or to the spool while Kafka is away: `publish` returns only when all of them are durable.

What is sent to Kafka has room in the spool promised before, so that it is never answered as failed and found in Kafka
later: whatever Kafka does not acknowledge in time is spooled, and at once what waits when Kafka is found away. Threads
work beside the callers: one serves librdkafka's delivery reports, one looks for room, and one drains the spool, oldest
first, deleting what Kafka has acknowledged; of several processes that share a spool one drains. The only module of
ingest that imports confluent_kafka.
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
from ingest import codec
from ingest.delivery import Failure, Reports
from ingest.errors import PublishError
from ingest.spool import Record, Spool

DRAIN_RECORDS = 500
_LOOK_SECONDS = 0.2
_log = structlog.get_logger()

Way = Literal["kafka", "spool"]  # how records became durable; "spool" if any of them did there


@dataclass(frozen=True, slots=True)
class PublisherState:
    """`kafka_up`: as of the last attempt; `accepting`: publish would work. `spooled` records wait on disk, in
    `spooled_bytes`, the oldest for `oldest_seconds`; `in_flight` calls wait for Kafka to acknowledge `queued`
    records."""

    kafka_up: bool
    spooled: int
    accepting: bool
    spooled_bytes: int = 0
    oldest_seconds: float = 0.0
    in_flight: int = 0
    queued: int = 0


class Publisher(Protocol):
    """Where the collector hands its records."""

    def publish(self, records: Sequence[Record]) -> Way:
        """Returns when all records are durable, and how.

        Raises PublishError when none was taken: the caller keeps them.
        """

    def state(self) -> PublisherState: ...

    def close(self) -> None: ...


def schema_record(settings: Settings) -> Record:
    """This version's schema, under the fingerprint that its events carry."""
    return Record(settings.kafka.schemas_topic, codec.FINGERPRINT.hex().encode(), json.dumps(codec.SCHEMA).encode())


class KafkaPublisher:
    """A Publisher with a Kafka producer and a spool; the schema always goes before the first event."""

    def __init__(
        self,
        settings: Settings,
        make_producer: Callable[[dict[str, Any]], Any] = confluent_kafka.Producer,
        drain_interval: float = 0.5,
    ) -> None:
        """Does not wait for Kafka. `drain_interval`: seconds between two looks at the spool. Raises PublishError."""
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
        self._no_room: PublishError | None = None  # why the spool can't promise anything, as of the last look
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
            # What Kafka refuses for good goes there too: draining sets it aside for a person to look at.
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
        """Ends the threads; what is in the spool stays there for the next start."""
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
        """Whether the spool has the room that `publish` promises."""
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
        """Sends to Kafka and waits, unless `patient` no longer than Kafka is up; the schema first, once per process."""
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
                except BufferError:  # librdkafka's queue is full: wait for reports to make room
                    if time.monotonic() < deadline and (self._up or patient) and not self._closing.is_set():
                        time.sleep(0.005)
                        continue
                    reports.add(Failure(record, "the producer's queue is full", refused=False))
                except KafkaException as error:
                    reports.add(Failure.of(record, error.args[0]))
                break
        if not patient:
            self._waiting.add(reports)
            if not self._up:  # since a moment ago: nobody will tell
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
            except Exception as error:  # this thread must outlive a disk that is full for a while
                _log.error("spool_drain_failed", error=repr(error))

    def _drain(self) -> None:
        """Moves the spool to Kafka as far as it goes, unless another process is at it."""
        if self._fatal:
            self._replace_producer()
        was_down = not self._up
        if was_down and not self._kafka_answers():
            return
        with self._spool.draining() as mine:
            still_up = not mine or self._empty()
        if was_down and still_up:  # if not, a publish may have found it down meanwhile
            self._mark_up()

    def _empty(self) -> bool:
        """Whether Kafka took all that waited."""
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
        """An idempotent producer is of no use after a fatal error; its undelivered records go to the spool."""
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
        """From now on to the spool; so is what waits for Kafka, which may have it all the same: its ids tell."""
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
    """librdkafka's configuration; what durability and order rest on can't be overridden by kafka.properties."""
    return {
        "client.id": "clickstream-collector",
        # Measured with 16 threads that wait: 2.4 times the single requests of 3 ms. Few requests in flight are larger
        # ones, and librdkafka's thread spins while all that it may have are out: 1.6 times the events in batches of 5.
        "linger.ms": 1,
        "max.in.flight.requests.per.connection": 2,
        "compression.type": "lz4",  # zstd would ask another package of kafka-python's consumers
        "log.connection.close": False,
        "reconnect.backoff.ms": 500,
        "reconnect.backoff.max.ms": 2000,
        **settings.kafka.properties,
        "bootstrap.servers": settings.kafka.address,
        "acks": "all",
        "enable.idempotence": True,  # or a broker's restart doubles events
        "partitioner": "murmur2_random",  # as Java's clients, so that a key's partition is the same for all
        # What was not acknowledged when its caller gave up is in the spool: sending it longer would only double it.
        "delivery.timeout.ms": max(1000, int(settings.collector.ack_timeout_seconds * 1000)),
    }
