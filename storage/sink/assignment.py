"""The partitions assigned to this process: what they have sealed is published, and their memory is bounded."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

import structlog

from infra.settings.jobs import Sink
from storage.errors import Fenced
from storage.sink.metrics import SinkMetrics
from storage.sink.ownership import OwnedPartition, Partition, State
from storage.sink.publishing import Published, wait_for_any

log = structlog.get_logger()
_MEMORY_CHECK_SECONDS = 0.02  # between two checks of the memory that a publish under way has freed


class Assignment(Mapping[Partition, OwnedPartition]):
    """Partition -> OwnedPartition.

    `check_topic` is called with a file's topic before it is published; `commit` with ({partition: end offset}, whether
    to wait) after files were published.
    """

    def __init__(
        self,
        settings: Sink,
        pool: ThreadPoolExecutor,
        metrics: SinkMetrics,
        check_topic: Callable[[str], None],
        commit: Callable[[Mapping[Partition, int], bool], None],
    ) -> None:
        self._settings, self._pool, self._metrics = settings, pool, metrics
        self._check_topic, self._commit = check_topic, commit
        self._owned: dict[Partition, OwnedPartition] = {}
        self._memory_short = False

    def __getitem__(self, partition: Partition) -> OwnedPartition:
        return self._owned[partition]

    def __iter__(self) -> Iterator[Partition]:
        return iter(self._owned)

    def __len__(self) -> int:
        return len(self._owned)

    def add(self, owned: OwnedPartition) -> None:
        self._owned[owned.partition] = owned

    def lose(self, partition: Partition) -> None:
        """Drops a partition and all of it that is not published: another may own it already. Raises Hung."""
        owned = self._owned.pop(partition, None)
        if owned is not None:
            owned.discard(self._settings.publish_timeout_seconds)
            self._metrics.forget(partition)

    def release(self, partitions: Collection[Partition]) -> None:
        """Publishes partitions and ends their epochs. A fenced one is dropped: its next owner reads the same."""
        mine = [partition for partition in partitions if partition in self._owned]
        for partition in mine:
            self._owned[partition].writer.seal("released")
        while mine:
            for partition in list(mine):
                owned = self._owned[partition]
                try:
                    self._publish([partition], wait=True)
                except Fenced as error:
                    log.warning("fenced", reason=str(error))
                    owned.discard(self._settings.publish_timeout_seconds)
                if owned.idle:
                    mine.remove(partition)
                    owned.epoch.release()
                    del self._owned[partition]
                    self._metrics.forget(partition)
            self._wait_for_any([self._owned[partition] for partition in mine], self._settings.publish_timeout_seconds)

    def publish(self) -> None:
        """Publishes sealed files, and seals more if memory is short. Raises Fenced, Hung, or what a publish raised."""
        self._publish(self._owned)
        self._check_time(self._owned.values())
        self._bound_memory()

    def share_memory(self) -> None:
        """Pauses some partitions while memory is short: many that read at once would each make small files."""
        paused = self.to_pause()
        for partition, owned in self.items():
            owned.pause_for_memory(partition in paused)

    def to_pause(self) -> set[Partition]:
        """Partitions that are to read nothing for now, so that the files of the others reach their size.

        Pausing begins when a file is closed for memory far below that size, and ends when most of the memory is free.
        The fullest partitions go on, as many as can be filled; of equally full ones those that are furthest behind.
        """
        if not self._memory_short:
            return set()
        size, used = self._settings.max_bytes, sum(owned.size for owned in self.values())
        free = self._settings.memory_bytes - used
        self._memory_short = 4 * used > self._settings.memory_bytes
        if not self._memory_short:
            return set()
        waiting = State.WAITING_FOR_SCHEMA
        behind = [partition for partition, owned in self.items() if not owned.at_end and owned.state is not waiting]
        behind.sort(key=lambda partition: (-self[partition].writer.size, self[partition].read_until))
        going_on = 0
        for partition in behind:
            missing = max(0, size - self[partition].writer.size)
            if going_on and missing > free:
                break
            free -= missing
            going_on += 1
        return set(behind[going_on:])

    def report(self, high: Callable[[Partition], int]) -> None:
        """Sets the gauges; `high` returns a partition's end offset in Kafka."""
        self._metrics.owned.set(len(self))
        self._metrics.open_bytes.set(sum(owned.size for owned in self.values()))
        self._metrics.open_files.set(sum(owned.writer.size > 0 for owned in self.values()))
        for partition, owned in self.items():
            since = owned.waits_since()
            self._metrics.lag.labels(*partition).set(max(0, high(partition) - owned.published))
            self._metrics.lag_seconds.labels(*partition).set(0 if since is None else max(0, time.time() - since / 1000))

    def _publish(self, partitions: Collection[Partition], wait: bool = False) -> None:
        for topic in {topic for topic, number in partitions if self._owned[topic, number].writer.sealed}:
            self._check_topic(topic)
        ended: dict[Partition, int] = {}
        for partition in partitions:
            published = self._owned[partition].publish(self._pool)
            if published is not None:
                self._count(partition, published)
                ended[partition] = self._owned[partition].published
        self._commit(ended, wait)

    def _count(self, partition: Partition, published: Published) -> None:
        sealed = published.sealed
        self._metrics.published(partition[0], sealed)
        self._metrics.publish_seconds.observe(published.seconds)
        log.info(
            "published",
            file=sealed.name,
            records=sealed.info.records,
            bytes=sealed.size,
            why=sealed.why,
            seconds=round(published.seconds, 3),
        )

    def _bound_memory(self) -> None:
        """While all files together are too large, waits for those being published; without any, closes the largest.

        A file frees memory while it is written. Closing another meanwhile would make small files.
        """
        limit = self._settings.memory_bytes
        while sum(owned.size for owned in self.values()) > limit:
            largest = max(self.values(), key=lambda owned: owned.writer.size)
            if not all(owned.idle for owned in self.values()):
                self._wait_for_any(self.values(), _MEMORY_CHECK_SECONDS)
            elif largest.writer.size:
                self._memory_short = self._memory_short or 2 * largest.writer.size < self._settings.max_bytes
                largest.writer.seal("memory")
            else:
                return
            self._publish(self._owned)

    def _wait_for_any(self, partitions: Collection[OwnedPartition], seconds: float) -> None:
        """Waits until a publish ends, at most so many seconds. Raises Hung if one takes too long."""
        wait_for_any([owned.publishes for owned in partitions], seconds)
        self._check_time(partitions)

    def _check_time(self, partitions: Collection[OwnedPartition]) -> None:
        for owned in partitions:
            owned.publishes.check_time(self._settings.publish_timeout_seconds)
