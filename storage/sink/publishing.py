"""Publishes the sealed files of one partition, one after another: the order in which readers see them.

If a second file were visible before the first, the partition's next owner would take its end as the position.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

from storage.errors import Hung
from storage.layout import Layout
from storage.sink.epochs import Epoch
from storage.sink.writer import Sealed


@dataclass(frozen=True, slots=True)
class Published:
    """A file that readers see now, and the seconds it took."""

    sealed: Sealed
    seconds: float


@dataclass(frozen=True, slots=True)
class _Running:
    """A publish under way, `since` in monotonic seconds."""

    sealed: Sealed
    since: float
    future: Future[Published]


class PublishQueue:
    """Sealed files of one partition that are not published yet, and the one publish that is under way."""

    def __init__(self, layout: Layout, epoch: Epoch) -> None:
        self._layout, self._epoch = layout, epoch
        self._waiting: deque[Sealed] = deque()
        self._running: _Running | None = None

    @property
    def size(self) -> int:
        """Bytes in memory."""
        running = [self._running.sealed] if self._running else []
        return sum(sealed.unwritten for sealed in (*self._waiting, *running))

    @property
    def empty(self) -> bool:
        """Whether nothing waits and nothing is under way."""
        return self._running is None and not self._waiting

    @property
    def running(self) -> Future[Published] | None:
        """The publish under way."""
        return self._running.future if self._running else None

    def add(self, sealed: deque[Sealed]) -> None:
        """Takes files out of `sealed`."""
        self._waiting.extend(sealed)
        sealed.clear()

    def advance(self, pool: ThreadPoolExecutor) -> Published | None:
        """Starts the next publish, if none is under way; returns one that has ended, or raises what it raised."""
        ended = None
        if self._running is not None and self._running.future.done():
            ended = self._running.future.result()
            self._running = None
        if self._running is None and self._waiting:
            sealed = self._waiting.popleft()
            future = pool.submit(publish, self._epoch, self._layout, sealed)
            self._running = _Running(sealed, time.monotonic(), future)
        return ended

    def check_time(self, seconds: float) -> None:
        """Raises Hung if the publish under way takes longer."""
        running = self._running
        if running is not None and not running.future.done() and time.monotonic() - running.since > seconds:
            raise self._hung(seconds)

    def discard(self, seconds: float) -> None:
        """Forgets what waits; waits for the publish under way, which the epoch allows or not.

        Raises Hung if that takes longer.
        """
        self._waiting.clear()
        if self._running is not None:
            if not wait([self._running.future], seconds).done:
                raise self._hung(seconds)
            self._running.future.exception()
            self._running = None

    def _hung(self, seconds: float) -> Hung:
        return Hung(self._layout.raw(self._epoch.partition), f"a file has not been published in {seconds:.0f} s")


def publish(epoch: Epoch, layout: Layout, sealed: Sealed) -> Published:
    """Gives a file its final name, after its quarantine file: what a visible file calls quarantined can be found.

    The quarantine file may be there already, from an owner that died between the two: this one holds at least as much.
    """
    began = time.monotonic()
    name = sealed.name.rsplit("/", 1)[-1]
    if sealed.quarantine:
        epoch.create(f"q+{name}", _drained(sealed.quarantine))
        epoch.publish(f"q+{name}", f"{layout.quarantine(epoch.partition)}/{sealed.name}", overwrite=True)
    epoch.create(name, _drained(sealed.chunks))
    epoch.publish(name, f"{layout.raw(epoch.partition)}/{sealed.name}")
    return Published(sealed, time.monotonic() - began)


def _drained(chunks: deque[bytes]) -> Iterator[bytes]:
    """Each chunk, which is freed once it is written."""
    while chunks:
        yield chunks.popleft()


def wait_for_any(queues: Iterable[PublishQueue], timeout: float | None = None) -> None:
    """Returns when one of the publishes under way has ended, or there is none."""
    running = [queue.running for queue in queues if queue.running is not None]
    if running:
        wait(running, timeout, FIRST_COMPLETED)
