"""Room on disk that is promised before it is needed: a count of promises, and a file that holds as much of the disk."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

from ingest.errors import SpoolFull


class Room:
    """`size` bytes in all, of which each of so many `processes` promises its share."""

    def __init__(self, ballast: Path, size: int, processes: int) -> None:
        self.size, self._share, self._ballast = size, size // processes, ballast
        self._promised, self._changed = 0, threading.Condition()

    @contextlib.contextmanager
    def promise(self, size: int, patience: float) -> Iterator[None]:
        """Holds `size` bytes for the block. Raises SpoolFull when others don't give them back in `patience` seconds."""
        with self._changed:
            free = lambda: self._promised + size <= self._share  # noqa: E731
            if size > self._share or not self._changed.wait_for(free, patience):
                raise SpoolFull(f"{self._ballast}: no room can be promised to {size} bytes")
            self._promised += size
        try:
            yield
        finally:
            with self._changed:
                self._promised -= size
                self._changed.notify_all()

    def hold(self) -> bool:
        """Whether the disk space is held; takes it again where it was given up and there is some."""
        if not self.size:
            return True
        try:
            with self._ballast.open("ab") as file:
                if os.fstat(file.fileno()).st_size < self.size:
                    os.posix_fallocate(file.fileno(), 0, self.size)
        except OSError:
            self.give_up()  # a half of it would only fill the disk
            return False
        return True

    def give_up(self) -> None:
        """Gives the disk space to those to whom it was promised."""
        with contextlib.suppress(OSError):
            os.truncate(self._ballast, 0)
