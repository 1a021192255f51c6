"""Disk space reserved before it is needed: a count of reserved bytes, and a ballast file that occupies them."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

from ingest.errors import SpoolFull


class DiskReservation:
    """`size` bytes in all, shared equally by `processes`."""

    def __init__(self, ballast: Path, size: int, processes: int) -> None:
        self.size, self._share, self._ballast = size, size // processes, ballast
        self._promised, self._changed = 0, threading.Condition()

    @contextlib.contextmanager
    def promise(self, size: int, patience: float) -> Iterator[None]:
        """Reserves `size` bytes for the block. Raises SpoolFull if they aren't free within `patience` seconds."""
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
        """Fills the ballast file if it is not full; returns whether the disk had the space."""
        if not self.size:
            return True
        try:
            with self._ballast.open("ab") as file:
                if os.fstat(file.fileno()).st_size < self.size:
                    os.posix_fallocate(file.fileno(), 0, self.size)
        except OSError:
            self.give_up()  # a partial ballast would only fill the disk
            return False
        return True

    def give_up(self) -> None:
        """Empties the ballast file, so that reserved bytes can be written."""
        with contextlib.suppress(OSError):
            os.truncate(self._ballast, 0)
