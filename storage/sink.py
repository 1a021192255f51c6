"""From Kafka to HDFS, exactly once: poll, append, publish, commit.

The group says which partitions are ours, an epoch makes them ours, the files say where to go on. A partition is given
up by publishing what is read of it; one that was lost or fenced is forgotten, since its next owner reads the same
again. Whatever is not foreseen here ends the process with a non-zero code: a new start is the one way of recovery.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import structlog

from infra.settings import Settings
from storage import batches, incarnation
from storage.containers import Reason
from storage.epochs import Epoch, claim, position
from storage.errors import Fenced, LogError
from storage.hdfs import Hdfs
from storage.holdings import Holdings
from storage.layout import Layout
from storage.metrics import SinkMetrics
from storage.owned import Owned
from storage.partition import PartitionWriter, Records
from storage.rolling import Limits
from storage.schemas import Registry
from storage.source import End, Event, OutOfRange, Partition, Run, SchemaTopic, Source

log = structlog.get_logger()
_THREADS = 8
_REJOIN_SECONDS = 1.0
_SCHEMA_POLL_SECONDS = 1.0
_POLL_SECONDS, _SHORT_POLL_SECONDS = 0.1, 0.01  # the latter while nothing comes and files are on their way


class Rejoin(Exception):  # noqa: N818 - not an error: a way to begin anew
    """Publish what can be, leave the group and join again: positions are then read afresh."""


def run(settings: Settings, fs: Hdfs, metrics: SinkMetrics, stop: threading.Event) -> None:
    """Lands records until `stop` is set, then publishes what is open and leaves the group."""
    for tree in ("raw", "quarantine", "epochs"):  # a file's blocks lie as the folder says in which it was created
        fs.mkdirs(f"{settings.hdfs.root}/{tree}")
        fs.set_policies(f"{settings.hdfs.root}/{tree}")
    while not stop.is_set():
        session = Session(settings, fs, metrics)
        try:
            session.run(stop)
        except (Rejoin, Fenced) as reason:
            log.warning("rejoining", reason=str(reason))
            metrics.rejoins.inc()
            session.leave()
            stop.wait(_REJOIN_SECONDS)  # two owners who fence each other in turn should not do it in a tight loop
        except BaseException:
            session.abort()
            raise
        else:
            session.leave()


class Session:
    """One membership of the group."""

    def __init__(self, settings: Settings, fs: Hdfs, metrics: SinkMetrics) -> None:
        if settings.sink.format == "parquet" or settings.sink.check_bodies:
            from storage.bodies import require

            require("sink.format = parquet" if settings.sink.format == "parquet" else "sink.check_bodies")
        self._settings, self._fs, self._metrics = settings, fs, metrics
        kafka = settings.kafka
        topics = (kafka.topic, kafka.rejected_topic, *settings.sink.topics)
        self._layouts = {topic: Layout(settings.hdfs.root, topic) for topic in topics}
        self._topic_ids: dict[str, str] = {}
        self._limits = Limits.of(settings.sink)
        self._registry = Registry()
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="publish")
        self._cut: batches.Cut | None = None
        self._next_cut_poll = self._next_schema_poll = self._next_report = 0.0
        self._skipping: set[Partition] = set()
        self._lows: dict[Partition, int] = {}
        self._leaving = False
        self._schemas = SchemaTopic(settings, self._registry)
        self._source = Source(settings, list(self._layouts), self._assigned, self._revoked, self._lost)
        self._owned = Holdings(settings.sink, self._pool, metrics, self._check_topic, self._source.commit)
        try:
            self._schemas.refresh()  # while the group takes us in
        except BaseException:
            self.abort()
            raise

    def run(self, stop: threading.Event) -> None:
        """Until `stop`; raises Rejoin or Fenced when a new membership is to take over."""
        events: Sequence[Event] = ()
        while not stop.is_set():
            self._skipping.clear()
            self._lows.clear()
            short = not events and any(owned.flight for owned in self._owned.values())
            events = self._source.poll(_SHORT_POLL_SECONDS if short else _POLL_SECONDS)
            for event in events:
                owned = self._owned.get(event.partition)
                if owned is None or event.partition in self._skipping:
                    continue  # revoked while it was on its way, or asked for again
                match event:
                    case Run(partition, records):
                        owned.at_end, owned.read_until = False, records.times[-1]
                        self._take(partition, owned, records)
                    case End(partition, offset):
                        owned.at_end = True
                        self._reach(partition, owned, offset)
                    case OutOfRange(partition):
                        raise Rejoin(f"{partition}: offset {owned.writer.end} is not in Kafka any more")
            self._tick(time.monotonic())

    def leave(self) -> None:
        """Publishes what is open, gives the partitions back and leaves the group."""
        try:
            self._owned.give_back(list(self._owned))
        except BaseException:
            self.abort()
            raise
        self._close(wait=True)

    def abort(self) -> None:
        """Leaves with what is published and no more, and waits for no publish."""
        self._close(wait=False)

    def _close(self, wait: bool) -> None:
        self._leaving = True  # what the group says from now on is the library's to answer
        self._source.close()
        self._schemas.close()
        self._pool.shutdown(wait=wait, cancel_futures=not wait)

    # Records

    def _take(self, partition: Partition, owned: Owned, records: Records) -> None:
        first = records.offsets[0]
        owned.heard.append((first, records.times[0]))
        if owned.held:
            owned.held += records
        elif self._trusted(partition, owned, first):
            self._append(partition, owned, records)
            if owned.held:
                owned.held_since, owned.held_end, self._next_schema_poll = time.monotonic(), 0, 0.0
                self._source.pause(partition)

    def _append(self, partition: Partition, owned: Owned, records: Records) -> None:
        """Leaves in `held` what comes from the first record of an unknown schema on."""

        def why_gap(offset: int) -> Reason:
            return self._why_gap(partition, offset)

        owned.held = records[owned.writer.append(records, why_gap) :]
        if owned.writer.unknown in owned.given_up:
            self._schemas.refresh()  # it may have come by now: a record that is redriven follows its schema at once
            owned.held = owned.held[owned.writer.append(owned.held, why_gap, owned.given_up) :]
        if owned.writer.unknown:
            fingerprint = owned.writer.unknown.hex()
            log.warning("unknown_schema", partition=partition, offset=owned.writer.end, fingerprint=fingerprint)

    def _reach(self, partition: Partition, owned: Owned, offset: int) -> None:
        """Kafka has no record before `offset`: what is missing up to there never comes."""
        end = owned.writer.end
        if owned.held:
            owned.held_end = offset
        elif offset > end and self._trusted(partition, owned, offset):
            owned.writer.skip(offset - 1, self._why_gap(partition, end))

    def _trusted(self, partition: Partition, owned: Owned, offset: int) -> bool:
        """False when the first thing heard after an assignment or a pause leaves a hole: then it is asked for again.

        A client library that hands out what it had fetched for an earlier assignment must not look like a gap in Kafka.
        """
        if not owned.trusted and offset > owned.writer.end:
            log.info("hole_asked_again", partition=partition, expected=owned.writer.end, offset=offset)
            self._source.seek(partition, owned.writer.end)
            self._skipping.add(partition)
            owned.trusted = True
            return False
        owned.trusted = True
        return True

    def _why_gap(self, partition: Partition, offset: int) -> Reason:
        """Kafka still has what lies around `offset`: then it has no such record. Else retention was faster than we."""
        if partition not in self._lows:  # once per poll: what is true after a fetch was true before it
            self._lows[partition] = self._source.watermarks(partition)[0]
        if self._lows[partition] <= offset:
            return "kafka"
        log.error("offsets_lost", partition=partition, first=offset, kafka_begins_at=self._lows[partition])
        return "lost"

    # What time brings

    def _tick(self, now: float) -> None:
        if now >= self._next_cut_poll:
            self._next_cut_poll = now + self._settings.sink.cut_poll_seconds
            self._cut = batches.newest(self._fs, self._layouts[self._settings.kafka.topic], self._cut)
        for (topic, number), owned in self._owned.items():
            cut = self._cut if self._cut is not None and self._cut.topic == topic else None
            owned.writer.roll(cut.ends.get(number, 0) if cut is not None else 0)
        if now >= self._next_schema_poll:
            self._next_schema_poll = now + _SCHEMA_POLL_SECONDS
            self._ask_for_schemas(now)
        self._owned.pump()
        self._make_room()
        if now >= self._next_report:
            self._next_report = now + 1.0
            self._owned.report(self._source.high)

    def _ask_for_schemas(self, now: float) -> None:
        """Goes on with partitions that waited for a schema: it has come, or its time is over."""
        waiting = {p: owned for p, owned in self._owned.items() if owned.held}
        if waiting:
            self._schemas.refresh()
        for partition, owned in waiting.items():
            late = now - owned.held_since >= self._settings.sink.schema_deadline_seconds
            while (unknown := owned.writer.unknown) and owned.held and (late or unknown in self._registry):
                if unknown not in self._registry:
                    log.error("schema_given_up", partition=partition, fingerprint=unknown.hex())
                    owned.given_up.add(unknown)
                self._append(partition, owned, owned.held)
            if not owned.held:
                self._go_on(partition, owned)
                self._reach(partition, owned, owned.held_end)

    def _go_on(self, partition: Partition, owned: Owned) -> None:
        """Reads again, unless there is another reason not to."""
        if not owned.held and not owned.crowded:
            owned.trusted = False
            self._source.resume(partition)

    def _make_room(self) -> None:
        """Many partitions at once would each make small files: some wait for the others."""
        crowded = self._owned.crowded()
        for partition, owned in self._owned.items():
            was, owned.crowded = owned.crowded, partition in crowded
            if owned.crowded and not was:
                self._source.pause(partition)
            elif was and not owned.crowded:
                self._go_on(partition, owned)

    def _check_topic(self, topic: str) -> None:
        """Raises LogError when it is not the topic that is landed.

        librdkafka reads on at the same offset when a topic is deleted and created anew. Asked after a file's records
        were read, this keeps another topic's out of it: a topic never has its former id again.
        """
        found = self._source.topic_id(topic)
        if self._topic_ids.get(topic) != found:
            incarnation.check(self._fs, self._layouts[topic], found)
            self._topic_ids[topic] = found

    # The group

    def _assigned(self, partitions: list[Partition]) -> None:
        """Claims, finds the positions, and reads from there."""
        if self._leaving:
            return
        for topic in {topic for topic, _ in partitions} - self._topic_ids.keys():
            self._check_topic(topic)
        # Side by side on HDFS; but Kafka is asked from this thread alone, since inside a listener the client is locked.
        claimed = list(self._pool.map(self._claim, partitions))
        for partition, (epoch, start) in zip(partitions, claimed, strict=True):
            self._owned.take(partition, self._own(partition, epoch, start))
        self._source.assign({partition: self._owned[partition].writer.end for partition in partitions})
        self._metrics.rebalances.labels("assigned").inc()
        log.info("assigned", offsets={f"{t}/{n}": self._owned[t, n].writer.end for t, n in partitions})

    def _claim(self, partition: Partition) -> tuple[Epoch, int]:
        topic, number = partition
        epoch = claim(self._fs, self._layouts[topic], number)
        return epoch, position(self._fs, self._layouts[topic], number)

    def _own(self, partition: Partition, epoch: Epoch, start: int) -> Owned:
        topic, number = partition
        layout = self._layouts[topic]
        low, high = self._source.watermarks(partition)
        if start > high:
            raise LogError(
                f"{topic} p={number}: files reach up to offset {start}, but Kafka's log ends at {high}: was the topic "
                f"created anew? Nothing is read, nothing reset. Restore the log, or move {layout.raw(number)} away."
            )
        registry = self._registry if topic == self._settings.kafka.topic else None
        sink = self._settings.sink
        writer = PartitionWriter(
            layout,
            number,
            start,
            format_=sink.format,
            codec_=sink.codec,
            check=sink.check_bodies,
            limits=self._limits,
            registry=registry,
        )
        if start < low:
            log.error("offsets_lost", partition=partition, first=start, last=low - 1, kafka_begins_at=low)
            writer.skip(low - 1, "lost")
        return Owned(layout, epoch, writer, start)

    def _revoked(self, partitions: list[Partition]) -> None:
        if self._leaving:
            return
        self._owned.give_back(partitions)
        self._source.unassign(partitions)
        self._metrics.rebalances.labels("revoked").inc()
        log.info("revoked", partitions=partitions)

    def _lost(self, partitions: list[Partition]) -> None:
        """Nothing of ours may be published any more."""
        for partition in partitions:
            self._owned.lose(partition)
        if not self._leaving:
            self._source.unassign(partitions)
        self._metrics.rebalances.labels("lost").inc()
        log.warning("lost", partitions=partitions)
