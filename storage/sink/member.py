"""From Kafka to HDFS, exactly once: poll, append, publish, commit.

The consumer group assigns partitions, an epoch gives the right to write them, and the landed files give the position. A
revoked partition is published before it is released; a lost or fenced one is dropped, since its next owner reads the
same records. Any other error ends the process with a non-zero code: the only recovery is a new start.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import structlog

from infra.settings import Settings
from storage.batches import cuts
from storage.errors import Fenced, LogError
from storage.formats import FORMATS
from storage.formats.schemas import SchemaRegistry
from storage.hdfs import Hdfs
from storage.landed import position
from storage.layout import Layout
from storage.sink import topic_id
from storage.sink.assignment import Assignment
from storage.sink.consumer import End, OutOfRange, PollResult, Run, SinkConsumer
from storage.sink.epochs import Epoch, claim_epoch
from storage.sink.metrics import SinkMetrics
from storage.sink.ownership import OwnedPartition, Partition, State
from storage.sink.rolling import Limits
from storage.sink.schema_topic import SchemaTopic
from storage.sink.writer import PartitionWriter

log = structlog.get_logger()
_THREADS = 8
_REJOIN_SECONDS = 1.0
_SCHEMA_POLL_SECONDS = 1.0
_POLL_SECONDS, _SHORT_POLL_SECONDS = 0.1, 0.01  # the latter while nothing comes and files are being published


class Rejoin(Exception):
    """Not an error but a new start: publish what can be, leave the group, join again and read the positions anew."""


def run(settings: Settings, fs: Hdfs, metrics: SinkMetrics, stop: threading.Event) -> None:
    """Lands records until `stop` is set, then publishes open files and leaves the group."""
    FORMATS[settings.sink.format].require(settings.sink.check_bodies)
    for tree in ("raw", "quarantine", "epochs"):  # a file has the policies of the folder in which it was created
        fs.mkdirs(f"{settings.hdfs.root}/{tree}")
        fs.set_policies(f"{settings.hdfs.root}/{tree}")
    while not stop.is_set():
        member = GroupMember(settings, fs, metrics)
        try:
            member.run(stop)
        except (Rejoin, Fenced) as reason:
            log.warning("rejoining", reason=str(reason))
            metrics.rejoins.inc()
            member.leave()
            stop.wait(_REJOIN_SECONDS)  # two owners may fence each other in turn: not in a tight loop
        except BaseException:
            member.abort()
            raise
        else:
            member.leave()


class GroupMember:
    """One membership of the consumer group: its assignment, cuts and timers."""

    def __init__(self, settings: Settings, fs: Hdfs, metrics: SinkMetrics) -> None:
        self._format = FORMATS[settings.sink.format]
        self._settings, self._fs, self._metrics = settings, fs, metrics
        kafka = settings.kafka
        topics = (kafka.topic, kafka.rejected_topic, *settings.sink.topics)
        self._layouts = {topic: Layout(settings.hdfs.root, topic) for topic in topics}
        self._topic_ids: dict[str, str] = {}
        self._limits = Limits.of(settings.sink)
        self._schemas = SchemaRegistry()
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="publish")
        self._cut: cuts.Cut | None = None
        self._next_cut_poll = self._next_schema_poll = self._next_report = 0.0
        self._leaving = False
        self._schema_topic = SchemaTopic(settings, self._schemas)
        self._consumer = SinkConsumer(settings, list(self._layouts), self._assigned, self._revoked, self._lost)
        self._owned = Assignment(settings.sink, self._pool, metrics, self._check_topic, self._consumer.commit)
        try:
            self._schema_topic.refresh()  # while the member joins the group
        except BaseException:
            self.abort()
            raise

    def run(self, stop: threading.Event) -> None:
        """Lands records until `stop` is set. Raises Rejoin or Fenced if a new membership is needed."""
        results: Sequence[PollResult] = ()
        while not stop.is_set():
            short = not results and any(owned.publishes.running for owned in self._owned.values())
            results = self._consumer.poll(_SHORT_POLL_SECONDS if short else _POLL_SECONDS)
            self._take(results)
            self._tick(time.monotonic())

    def leave(self) -> None:
        """Publishes open files, releases the partitions and leaves the group."""
        try:
            self._owned.release(list(self._owned))
        except BaseException:
            self.abort()
            raise
        self._close(wait=True)

    def abort(self) -> None:
        """Leaves the group without publishing anything more."""
        self._close(wait=False)

    def _close(self, wait: bool) -> None:
        self._leaving = True  # from now on the library answers the group
        self._consumer.close()
        self._schema_topic.close()
        self._pool.shutdown(wait=wait, cancel_futures=not wait)

    def _take(self, results: Sequence[PollResult]) -> None:
        """Passes the results of a poll to their partitions."""
        asked_again: set[Partition] = set()
        for result in results:
            owned = self._owned.get(result.partition)
            if owned is None or result.partition in asked_again:
                continue  # revoked meanwhile, or fetched before Kafka was asked again
            was_waiting = owned.state is State.WAITING_FOR_SCHEMA
            match result:
                case Run(_, records):
                    follows = owned.take(records)
                case End(_, offset):
                    follows = owned.reach(offset)
                case OutOfRange(partition):
                    raise Rejoin(f"{partition}: offset {owned.writer.end} is not in Kafka any more")
            if not follows:
                asked_again.add(result.partition)
            if not was_waiting and owned.state is State.WAITING_FOR_SCHEMA:
                self._next_schema_poll = 0.0

    # Timers

    def _tick(self, now: float) -> None:
        if now >= self._next_cut_poll:
            self._next_cut_poll = now + self._settings.sink.cut_poll_seconds
            self._cut = cuts.newest(self._fs, self._layouts[self._settings.kafka.topic], self._cut)
        for (topic, number), owned in self._owned.items():
            cut = self._cut if self._cut is not None and self._cut.topic == topic else None
            owned.writer.roll(cut.ends.get(number, 0) if cut is not None else 0)
        if now >= self._next_schema_poll:
            self._next_schema_poll = now + _SCHEMA_POLL_SECONDS
            self._poll_schemas(now)
        self._owned.publish()
        self._owned.share_memory()
        if now >= self._next_report:
            self._next_report = now + 1.0
            self._owned.report(self._consumer.high)

    def _poll_schemas(self, now: float) -> None:
        """Reads new schemas if any partition waits for one."""
        waiting = [owned for owned in self._owned.values() if owned.state is State.WAITING_FOR_SCHEMA]
        if waiting:
            self._schema_topic.refresh()
        for owned in waiting:
            owned.retry_schemas(now, self._settings.sink.schema_deadline_seconds)

    def _check_topic(self, topic: str) -> None:
        """Raises LogError if the topic is not the one that was landed.

        librdkafka reads on at the same offset if a topic is deleted and created again. A file's topic is checked after
        its records were read, so none of another topic gets into it: a topic never gets its former id again.
        """
        found = self._consumer.topic_id(topic)
        if self._topic_ids.get(topic) != found:
            topic_id.check(self._fs, self._layouts[topic], found)
            self._topic_ids[topic] = found

    # The group

    def _assigned(self, partitions: list[Partition]) -> None:
        """Takes ownership of the partitions, and reads them from their positions on."""
        if self._leaving:
            return
        for topic in {topic for topic, _ in partitions} - self._topic_ids.keys():
            self._check_topic(topic)
        # In parallel on HDFS; Kafka is asked from this thread only, since inside a listener the client is locked.
        claimed = list(self._pool.map(self._claim, partitions))
        for partition, (epoch, start) in zip(partitions, claimed, strict=True):
            self._owned.add(self._own(partition, epoch, start))
        self._consumer.assign({partition: self._owned[partition].writer.end for partition in partitions})
        self._metrics.rebalances.labels("assigned").inc()
        log.info("assigned", offsets={f"{t}/{n}": self._owned[t, n].writer.end for t, n in partitions})

    def _claim(self, partition: Partition) -> tuple[Epoch, int]:
        topic, number = partition
        epoch = claim_epoch(self._fs, self._layouts[topic], number)
        return epoch, position(self._fs, self._layouts[topic], number)

    def _own(self, partition: Partition, epoch: Epoch, start: int) -> OwnedPartition:
        topic, number = partition
        layout, sink = self._layouts[topic], self._settings.sink
        low, high = self._consumer.watermarks(partition)
        if start > high:
            raise LogError(
                f"{topic} p={number}: files reach up to offset {start}, but Kafka's log ends at {high}: was the topic "
                f"created anew? Nothing is read, nothing reset. Restore the log, or move {layout.raw(number)} away."
            )
        writer = PartitionWriter(
            layout,
            number,
            start,
            format_=self._format,
            codec_=sink.codec,
            check=sink.check_bodies,
            limits=self._limits,
            registry=self._schemas if topic == self._settings.kafka.topic else None,
        )
        if start < low:
            log.error("offsets_lost", partition=partition, first=start, last=low - 1, kafka_begins_at=low)
            writer.skip(low - 1, "lost")
        return OwnedPartition(layout, epoch, writer, start, self._consumer, self._schemas, self._schema_topic.refresh)

    def _revoked(self, partitions: list[Partition]) -> None:
        if self._leaving:
            return
        self._owned.release(partitions)
        self._consumer.unassign(partitions)
        self._metrics.rebalances.labels("revoked").inc()
        log.info("revoked", partitions=partitions)

    def _lost(self, partitions: list[Partition]) -> None:
        """Drops partitions that another member may own already."""
        for partition in partitions:
            self._owned.lose(partition)
        if not self._leaving:
            self._consumer.unassign(partitions)
        self._metrics.rebalances.labels("lost").inc()
        log.warning("lost", partitions=partitions)
