"""A partition that this process owns: its epoch, what is being read, what is being published, one file at a time."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field

from storage.epochs import Epoch
from storage.errors import Hung
from storage.layout import Layout
from storage.partition import NONE, PartitionWriter, Records, Sealed


@dataclass(frozen=True, slots=True)
class Published:
    """A file that readers see now, and the seconds it took."""

    sealed: Sealed
    seconds: float


@dataclass
class Owned:
    """One partition of one owner. `published` is the offset up to which files are visible.

    `held` are records that wait for a schema, since `held_since` (monotonic seconds), and `held_end` is the end of
    Kafka's log as heard meanwhile. `given_up` are fingerprints of schemas that did not come in time. `trusted` is False
    until the first records after an assignment or a pause have been seen to follow without a hole, or the hole was
    asked for again. `heard` are (offset, Kafka's time in milliseconds) of the first records of what is not published
    yet, now and then. `at_end`: nothing more was in Kafka when it was last asked; `read_until`: Kafka's time of the
    last record; `crowded`: it reads nothing until there is room.
    """

    layout: Layout
    epoch: Epoch
    writer: PartitionWriter
    published: int
    held: Records = NONE
    held_since: float = 0.0
    held_end: int = 0
    given_up: set[bytes] = field(default_factory=set)
    trusted: bool = False
    heard: deque[tuple[int, int]] = field(default_factory=deque)
    at_end: bool = False
    read_until: int = 0
    crowded: bool = False
    _queue: deque[Sealed] = field(default_factory=deque)
    _flight: Future[Published] | None = None
    _flying: tuple[Sealed, ...] = ()  # one at most
    _flies_since: float = 0.0

    @property
    def size(self) -> int:
        """Bytes in memory: open, held, waiting and on the way."""
        return self.writer.size + self.held.size + sum(sealed.left for sealed in (*self._queue, *self._flying))

    @property
    def idle(self) -> bool:
        """Whether all that was sealed is published."""
        return self._flight is None and not self._queue and not self.writer.sealed

    def check_flight(self, seconds: float) -> None:
        """Raises Hung when a publish takes longer."""
        if self._flight is not None and not self._flight.done() and time.monotonic() - self._flies_since > seconds:
            raise self._hung(seconds)

    def _hung(self, seconds: float) -> Hung:
        return Hung(self.layout.raw(self.epoch.partition), f"a file has not been published in {seconds:.0f} s")

    def waits_since(self) -> int | None:
        """Kafka's time, in milliseconds, of about the oldest record that is not published; None when there is none."""
        while len(self.heard) > 1 and self.heard[1][0] <= self.published:
            self.heard.popleft()
        waiting = self.published < self.writer.end or self.held
        return self.heard[0][1] if self.heard and waiting else None

    @property
    def flight(self) -> Future[Published] | None:
        return self._flight

    def pump(self, pool: ThreadPoolExecutor) -> Published | None:
        """Starts the next publish, if none is under way; returns one that has ended, or raises what it raised.

        One after another: if a second file were visible before the first, a successor would take its end as the
        position.
        """
        self._queue.extend(self.writer.sealed)
        self.writer.sealed.clear()
        ended = None
        if self._flight is not None and self._flight.done():
            ended = self._flight.result()
            self._flight, self._flying = None, ()
            self.published = ended.sealed.info.last + 1
        if self._flight is None and self._queue:
            sealed = self._queue.popleft()
            self._flying, self._flies_since = (sealed,), time.monotonic()
            self._flight = pool.submit(publish, self.epoch, self.layout, sealed)
        return ended

    def discard(self, seconds: float) -> None:
        """Forgets all that is not published; waits for what is on its way, which the epoch lets through or not.

        Raises Hung when that takes longer.
        """
        self._queue.clear()
        self.writer.sealed.clear()
        if self._flight is not None:
            if not wait([self._flight], seconds).done:
                raise self._hung(seconds)
            self._flight.exception()
            self._flight, self._flying = None, ()


def publish(epoch: Epoch, layout: Layout, sealed: Sealed) -> Published:
    """Gives a file its final name, after its quarantined sister: so whatever a visible file excuses is there to be
    seen.

    The sister may be there already, from an owner that died between the two: this one holds at least as much.
    """
    began = time.monotonic()
    name = sealed.name.rsplit("/", 1)[-1]
    if sealed.quarantine:
        epoch.create(f"q+{name}", emptied(sealed.quarantine))
        epoch.publish(f"q+{name}", f"{layout.quarantine(epoch.partition)}/{sealed.name}", overwrite=True)
    epoch.create(name, emptied(sealed.chunks))
    epoch.publish(name, f"{layout.raw(epoch.partition)}/{sealed.name}")
    return Published(sealed, time.monotonic() - began)


def emptied(chunks: deque[bytes]) -> Iterator[bytes]:
    """Each chunk, which is not kept: what is written need not wait in memory for the rest."""
    while chunks:
        yield chunks.popleft()


def wait_for_any(partitions: Iterable[Owned], timeout: float | None = None) -> None:
    """Returns when one of the publishes under way has ended, or there is none."""
    flights = [owned.flight for owned in partitions if owned.flight is not None]
    if flights:
        wait(flights, timeout, FIRST_COMPLETED)
