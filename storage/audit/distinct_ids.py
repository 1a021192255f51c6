"""Counts distinct event ids, exactly and in bounded memory: they are split into files on disk by their hash."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path
from types import TracebackType

_FILES = 256
_BUFFER = 1 << 12  # ids in memory per file


class DistinctIds:
    """A set of event ids; each takes 16 bytes of temporary disk, and 1/256 of them at a time the same in memory."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="clickstream-ids-")
        self._pending: list[bytearray] = [bytearray() for _ in range(_FILES)]
        self._flushed: set[int] = set()
        self.events = 0

    def __enter__(self) -> DistinctIds:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._folder.cleanup()

    def add(self, event_id: str) -> None:
        digest = hashlib.blake2b(event_id.encode(), digest_size=16).digest()
        pending = self._pending[digest[0]]
        pending += digest
        self.events += 1
        if len(pending) >= 16 * _BUFFER:
            self._flush(digest[0])

    def distinct(self) -> int:
        """Number of distinct ids that were added."""
        import pyarrow as pa
        import pyarrow.compute as pc

        total = 0
        for number, pending in enumerate(self._pending):
            data = (self._path(number).read_bytes() if number in self._flushed else b"") + bytes(pending)
            if not data:
                continue
            ids = pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), len(data) // 16, [None, pa.py_buffer(data)])
            total += pc.count_distinct(ids).as_py()
        return total

    def _flush(self, number: int) -> None:
        with self._path(number).open("ab") as file:
            file.write(self._pending[number])
        self._pending[number].clear()
        self._flushed.add(number)

    def _path(self, number: int) -> Path:
        return Path(self._folder.name) / f"{number:03d}"
