"""The partitions that are this process's: what they have sealed is published, together they stay within the memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

import structlog

from infra.rules import Sink
from storage.errors import Fenced
from storage.metrics import SinkMetrics
from storage.owned import Owned, Published, wait_for_any
from storage.source import Partition

log = structlog.get_logger()
_LOOK_SECONDS = 0.02  # between two looks at how much of a file under way has left memory


class Holdings(Mapping[Partition, Owned]):
    """Partition -> Owned.

    `check_topic` is called with the topic of each file before it is published, `commit` with the ends of those that
    were published: ({partition: offset}, whether to wait).
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
        self._owned: dict[Partition, Owned] = {}
        self._tight = False

    def __getitem__(self, partition: Partition) -> Owned:
        return self._owned[partition]

    def __iter__(self) -> Iterator[Partition]:
        return iter(self._owned)

    def __len__(self) -> int:
        return len(self._owned)

    def take(self, partition: Partition, owned: Owned) -> None:
        self._owned[partition] = owned

    def lose(self, partition: Partition) -> None:
        """Forgets all of it that is not published: others may own it already. Raises Hung."""
        owned = self._owned.pop(partition, None)
        if owned is not None:
            owned.discard(self._settings.publish_timeout_seconds)
            self._metrics.forget(partition)

    def give_back(self, partitions: Collection[Partition]) -> None:
        """Publishes and releases. A partition that was fenced is forgotten: its next owner reads the same again."""
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

    def pump(self) -> None:
        """Starts and ends publishes. Raises Fenced, Hung, or whatever a publish raised."""
        self._publish(self._owned)
        self._check_flights(self._owned.values())
        self._bound_memory()

    def crowded(self) -> set[Partition]:
        """Partitions that are to read nothing until there is room, so that the files of the others get their size.

        That begins when memory closes a file far below it, and ends when most of the memory is free. As many of the
        fullest go on as can be filled; of equally full ones those that are furthest behind.
        """
        if not self._tight:
            return set()
        size, used = self._settings.max_bytes, sum(owned.size for owned in self.values())
        room = self._settings.memory_bytes - used
        self._tight = 4 * used > self._settings.memory_bytes
        if not self._tight:
            return set()
        behind = [partition for partition, owned in self.items() if not owned.at_end and not owned.held]
        behind.sort(key=lambda partition: (-self[partition].writer.size, self[partition].read_until))
        going_on = 0
        for partition in behind:
            missing = max(0, size - self[partition].writer.size)
            if going_on and missing > room:
                break
            room -= missing
            going_on += 1
        return set(behind[going_on:])

    def report(self, high: Callable[[Partition], int]) -> None:
        """Sets the gauges; `high` is the end of a partition in Kafka."""
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
            published = self._owned[partition].pump(self._pool)
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
        """While all files together are too large, waits for those on their way; without any, closes the largest.

        Those on their way free memory as they are written. Closing another meanwhile would make small files.
        """
        limit = self._settings.memory_bytes
        while sum(owned.size for owned in self.values()) > limit:
            largest = max(self.values(), key=lambda owned: owned.writer.size)
            if not all(owned.idle for owned in self.values()):
                self._wait_for_any(self.values(), _LOOK_SECONDS)
            elif largest.writer.size:
                self._tight = self._tight or 2 * largest.writer.size < self._settings.max_bytes
                largest.writer.seal("memory")
            else:
                return
            self._publish(self._owned)

    def _wait_for_any(self, partitions: Collection[Owned], seconds: float) -> None:
        """Until a publish ends, for so long at the most. Raises Hung when one takes too long."""
        wait_for_any(partitions, seconds)
        self._check_flights(partitions)

    def _check_flights(self, partitions: Collection[Owned]) -> None:
        for owned in partitions:
            owned.check_flight(self._settings.publish_timeout_seconds)
