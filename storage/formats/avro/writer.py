"""Writes Avro container files (Avro 1.12, object container files) from bodies that are encoded already. No I/O.

Blocks are compressed by threads as they fill, and kept until the file is closed: the header, which comes first, says
exactly what the file holds.
"""

from __future__ import annotations

import json
import os
import sys
import zlib
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from itertools import accumulate, compress
from typing import Any

from storage.formats.envelope import unsigned_varint, varint
from storage.formats.file_info import FileInfo
from storage.formats.format import Codec, Encoded

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

BodyCheck = Callable[[Sequence[bytes]], Sequence[bool]]  # which of some bodies follow their schema

_PARTS = 4  # of a record: partition, the offset's low bits, the rest of the offset with the time, body
BLOCK_RECORDS = 4_000
BLOCK_BYTES = 1 << 20
_MAX_COMPRESSING = 4  # blocks of a file, while the next one fills
MAGIC = b"Obj\x01"

# The two lowest groups of seven bits when more follow: neighbouring offsets and times differ only there.
_LOW = [bytes((n & 0x7F | 0x80, n >> 7 | 0x80)) for n in range(1 << 14)]
_SAME_HIGH = len(_LOW) // 2  # offsets, of which each is twice its number when it is encoded


def _time(millis: int) -> bytes:
    n = (millis << 1) ^ (millis >> 63)
    return _LOW[n & 0x3FFF] + unsigned_varint(n >> 14) if n > 0x3FFF else unsigned_varint(n)


class Container:
    """A RecordFile of Avro. Bodies are copied, not decoded: only a `check` finds those that don't follow the schema."""

    def __init__(self, schema: Mapping[str, Any], partition: int, codec: Codec, check: BodyCheck | None = None) -> None:
        self._schema, self._codec, self._check = schema, codec, check
        self._compress = COMPRESS[codec]
        self._partition = varint(partition)
        # Random: an attacker could put a predictable marker into an event, which would split the file there.
        self._sync = os.urandom(16)
        self._blocks: list[bytes] = []
        self._compressing: deque[tuple[Future[_Block], int]] = deque()  # blocks, and their sizes before
        self._compressing_size = 0
        self._parts: list[bytes] = []
        self._origins: list[tuple[int, int, bytes | None]] = []  # offset, time and key of what is to be checked
        self._pending = self._stored = self._count = 0
        self.records = 0
        self.unread: list[Encoded] = []

    @property
    def size(self) -> int:
        return self._stored + self._pending + self._compressing_size

    @property
    def length(self) -> int:
        return self.size

    def add(self, offset: int, appended_at: int, body: bytes, key: bytes | None = None) -> None:
        self.extend(offset, (appended_at,), (body,), (key,), len(body))

    def extend(
        self, first: int, times: Sequence[int], bodies: Sequence[bytes], keys: Sequence[bytes | None], size: int
    ) -> None:
        """Takes a third of the time of `add` for each record, or less."""
        at, count = 0, len(bodies)
        if self._pending + size <= BLOCK_BYTES and count <= self._room(first):
            self._append(first, times, bodies, keys, size)
            return
        sizes = list(accumulate(map(len, bodies), initial=0))
        while at < count:
            full = bisect_left(sizes, sizes[at] + BLOCK_BYTES - self._pending, at + 1)
            end = min(count, at + self._room(first + at), full)
            self._append(first + at, times[at:end], bodies[at:end], keys[at:end], sizes[end] - sizes[at])
            at = end

    def _room(self, first: int) -> int:
        """Number of records that the block may still take, with offsets that differ only in their low bits."""
        return min(BLOCK_RECORDS - self._count, _SAME_HIGH - first % _SAME_HIGH)

    def _append(
        self,
        first: int,
        times: Sequence[int],
        bodies: Sequence[bytes],
        keys: Sequence[bytes | None],
        size: int,
    ) -> None:
        """Adds records to the open block; their offsets have the same high bits."""
        count = len(bodies)
        parts = [self._partition] * (_PARTS * count)
        parts[1::_PARTS], parts[2::_PARTS] = self._heads(first, times)
        parts[3::_PARTS] = bodies
        self._parts += parts
        if self._check is not None:
            self._origins += zip(range(first, first + count), times, keys, strict=True)
        self._count += count
        self._pending += size + 12 * count
        if self._count == BLOCK_RECORDS or self._pending >= BLOCK_BYTES:
            self._close_block()

    def _heads(self, first: int, times: Sequence[int]) -> tuple[list[bytes], list[bytes]]:
        """Offsets and times, encoded in two parts: the offset's two lowest groups of bits; the rest with the time."""
        n, count = first << 1, len(times)
        if n > 0x3FFF:
            lows, high = _LOW[n & 0x3FFF : (n & 0x3FFF) + 2 * count : 2], unsigned_varint(n >> 14)
        else:
            lows, high = [varint(offset) for offset in range(first, first + count)], b""
        ends = {time: high + _time(time) for time in set(times)}
        return lows, list(map(ends.__getitem__, times))

    def finish(self) -> int:
        if self._count:
            self._close_block()
        self._collect(0)
        return self.records

    def file(self, info: FileInfo) -> list[bytes]:
        entries = {
            "avro.schema": json.dumps(self._schema).encode(),
            "avro.codec": self._codec.encode(),
            **info.to_metadata(),
        }
        header = [MAGIC, varint(len(entries))]
        for name, value in entries.items():
            header += [varint(len(name)), name.encode(), varint(len(value)), value]
        header += [b"\x00", self._sync]
        return [b"".join(header), *self._blocks]

    def _close_block(self) -> None:
        parts = self._parts if self._check is not None else [b"".join(self._parts)]
        self._compressing.append((_pool().submit(self._block, self._count, parts, self._origins), self._pending))
        self._compressing_size += self._pending
        self._parts, self._origins, self._count, self._pending = [], [], 0, 0
        self._collect(_MAX_COMPRESSING)

    def _block(self, count: int, parts: list[bytes], origins: list[tuple[int, int, bytes | None]]) -> _Block:
        unread: list[Encoded] = []
        if self._check is not None:
            bodies = parts[_PARTS - 1 :: _PARTS]
            sound = self._check(bodies)
            if not all(sound):
                unread = [(*origin, body) for origin, body, ok in zip(origins, bodies, sound, strict=True) if not ok]
                records = zip(*(parts[n::_PARTS] for n in range(_PARTS)), strict=True)
                parts = [part for record in compress(records, sound) for part in record]
                count -= len(unread)
        compressed = self._compress(b"".join(parts))
        data = b"".join((varint(count), varint(len(compressed)), compressed, self._sync)) if count else b""
        return _Block(data, count, unread)

    def _collect(self, most: int) -> None:
        """Collects blocks that are compressed; waits until at most `most` are not."""
        while self._compressing and (len(self._compressing) > most or self._compressing[0][0].done()):
            block_future, size = self._compressing.popleft()
            block = block_future.result()
            self._blocks.append(block.data)
            self._stored += len(block.data)
            self.records += block.records
            self.unread += block.unread
            self._compressing_size -= size


@dataclass(frozen=True, slots=True)
class _Block:
    """A block as it is written to the file, and the records that are not in it."""

    data: bytes
    records: int
    unread: list[Encoded]


@cache
def _pool() -> ThreadPoolExecutor:
    """Threads for all containers: compression releases the interpreter's lock."""
    return ThreadPoolExecutor(min(4, os.cpu_count() or 1), thread_name_prefix="compress")


def _deflate(data: bytes) -> bytes:
    raw = zlib.compressobj(6, zlib.DEFLATED, -15)  # without zlib's header, as Avro wants it
    return raw.compress(data) + raw.flush()


# Level 3 takes up to twice the time for 99 to 103 % of the size, of real and of simulated page views. Tables as small
# as these fit into a core's nearest cache, and save a sixth of level 1's time at the same size.
_ZSTD: dict[int, int] = {
    zstd.CompressionParameter.compression_level: 1,
    zstd.CompressionParameter.hash_log: 13,
    zstd.CompressionParameter.window_log: 18,
}

COMPRESS: dict[Codec, Callable[[bytes], bytes]] = {
    "zstandard": lambda data: zstd.compress(data, options=_ZSTD),
    "deflate": _deflate,
    "null": lambda data: data,
}
