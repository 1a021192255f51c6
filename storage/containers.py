"""Avro container files (Avro 1.12, object container files) from bodies that are encoded already. No I/O.

Parquet files, in storage/parquet.py, have the same verbs and say the same of themselves in their footer.

A record is its fields one after another: so three encoded longs before an untouched event body make the envelope
`{partition, offset, appended_at, event}`, with no decoding. Blocks are compressed as they fill, by threads, and kept
until the file is closed, because the header, which comes first, says exactly what the file holds:

    clickstream.topic, .partition, .first, .last     the range of offsets that the file answers for, both included
    clickstream.records                              how many of them are in the file
    clickstream.quarantined [[first, last] …]        those that lie in the file of the same name under quarantine/
    clickstream.gaps [[first, last, reason] …]       those that don't exist: "kafka" explains them, or they are "lost"
    clickstream.fingerprint, .writer                 the event schema's, in hex; who wrote it

In a file of raw/, records + quarantined + gaps = last - first + 1, always. Its sister under quarantine/ has the same
range and only says how many records it holds.
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
from dataclasses import dataclass, field
from functools import cache, lru_cache
from importlib.metadata import PackageNotFoundError, version
from itertools import accumulate, compress
from typing import Any, Literal, Protocol

from storage.errors import ContainerError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

Codec = Literal["zstandard", "deflate", "null"]
Format = Literal["avro", "parquet"]  # also the suffixes of files
Reason = Literal["kafka", "lost"]
Span = tuple[int, int]
Gap = tuple[int, int, Reason]
Encoded = tuple[int, int, bytes | None, bytes]  # offset, Kafka's time in milliseconds, key, body
Check = Callable[[Sequence[bytes]], Sequence[bool]]  # which of some bodies follow their schema

_HEAD_FIELDS = 3  # of an envelope, before those of the body
_PARTS = 4  # of a record: partition, the offset's low bits, the rest of the offset with the time, body
BLOCK_RECORDS = 4_000
BLOCK_BYTES = 1 << 20
_IN_FLIGHT = 4  # blocks of a file that are compressed beside the filling of the next
MAGIC = b"Obj\x01"
_LONG = {"type": "long", "logicalType": "timestamp-millis"}


def event_envelope(event: Mapping[str, Any]) -> dict[str, Any]:
    """Schema of the records of topic clicks; `event` is the writer's schema."""
    return _envelope("Envelope", [{"name": "event", "type": dict(event)}])


def plain_envelope() -> dict[str, Any]:
    """Schema of records that are landed as they came: clicks.rejected, and whatever is quarantined."""
    optional = {"type": ["null", "bytes"], "default": None}
    return _envelope("PlainEnvelope", [{"name": "key", **optional}, {"name": "value", **optional}])


def body_fields(envelope: Mapping[str, Any]) -> str:
    """The fields of an envelope's bodies, in JSON."""
    return json.dumps(envelope["fields"][_HEAD_FIELDS:])


def _envelope(name: str, fields: list[dict[str, Any]]) -> dict[str, Any]:
    head = [
        {"name": "partition", "type": "int"},
        {"name": "offset", "type": "long"},
        {"name": "appended_at", "type": _LONG, "doc": "Kafka's time of the record"},
    ]
    return {"type": "record", "name": name, "namespace": "clickstream", "fields": head + fields}


@cache
def this_version() -> str:
    """Who writes files: this package, in its version."""
    try:
        return f"clickstream {version('clickstream')}"
    except PackageNotFoundError:  # in a job's container the code is a zip
        return "clickstream"


@dataclass(frozen=True, slots=True)
class FileInfo:
    """What a file's header says of it. `fingerprint` is the event schema's, in hex; empty for plain envelopes."""

    topic: str
    partition: int
    first: int
    last: int
    records: int
    quarantined: tuple[Span, ...] = ()
    gaps: tuple[Gap, ...] = ()
    fingerprint: str = ""
    writer: str = field(default_factory=this_version)

    def to_metadata(self) -> dict[str, bytes]:
        texts = {
            "topic": self.topic,
            "partition": str(self.partition),
            "first": str(self.first),
            "last": str(self.last),
            "records": str(self.records),
            "quarantined": json.dumps(self.quarantined),
            "gaps": json.dumps(self.gaps),
            "fingerprint": self.fingerprint,
            "writer": self.writer,
        }
        return {f"clickstream.{name}": text.encode() for name, text in texts.items()}

    @classmethod
    def from_metadata(cls, entries: Mapping[str, bytes]) -> FileInfo:
        """Raises ContainerError for what is missing or garbled."""
        prefix = "clickstream."
        try:
            texts = {n.removeprefix(prefix): v.decode() for n, v in entries.items() if n.startswith(prefix)}
            return cls(
                topic=texts["topic"],
                partition=int(texts["partition"]),
                first=int(texts["first"]),
                last=int(texts["last"]),
                records=int(texts["records"]),
                quarantined=tuple((int(first), int(last)) for first, last in json.loads(texts["quarantined"])),
                gaps=tuple((int(first), int(last), reason) for first, last, reason in json.loads(texts["gaps"])),
                fingerprint=texts["fingerprint"],
                writer=texts["writer"],
            )
        except (KeyError, ValueError, TypeError) as error:
            raise ContainerError(f"the metadata lack or garble {error}") from error


class RecordFile(Protocol):
    """A file that grows in memory, one record at a time, in order of offsets."""

    @property
    def size(self) -> int:
        """What it takes in memory, in bytes."""

    @property
    def length(self) -> int:
        """How long it would be if it were finished now, in bytes, about."""

    def add(self, offset: int, appended_at: int, body: bytes, key: bytes | None = None) -> None:
        """Adds one record; `appended_at` in milliseconds since 1970. The key is kept for `unread` alone."""

    def extend(
        self, first: int, times: Sequence[int], bodies: Sequence[bytes], keys: Sequence[bytes | None], size: int
    ) -> None:
        """Adds records whose offsets follow one another from `first` on; `size` of the bodies, in bytes."""

    def finish(self) -> int:
        """Takes no more; how many records are in the file."""

    @property
    def unread(self) -> Sequence[Encoded]:
        """Records that are not in the file, since their bodies don't follow its schema; known once it is finished."""

    def file(self, info: FileInfo) -> list[bytes]:
        """The file in pieces, once it is finished."""


def varint(number: int) -> bytes:
    """Avro's long: zigzag, then seven bits a byte, lowest first."""
    return _groups((number << 1) ^ (number >> 63))


@lru_cache(maxsize=1024)
def _groups(n: int) -> bytes:
    out = bytearray()
    while n > 0x7F:
        out.append(n & 0x7F | 0x80)
        n >>= 7
    out.append(n)
    return bytes(out)


def plain_body(key: bytes | None, value: bytes | None) -> bytes:
    """The two last fields of a plain envelope."""
    return b"".join(b"\x00" if part is None else b"\x02" + varint(len(part)) + part for part in (key, value))


# The two lowest groups of seven bits when more follow: neighbouring offsets and times differ only there.
_LOW = [bytes((n & 0x7F | 0x80, n >> 7 | 0x80)) for n in range(1 << 14)]
_SAME_HIGH = len(_LOW) // 2  # offsets, of which each is twice its number when it is encoded


def _time(millis: int) -> bytes:
    n = (millis << 1) ^ (millis >> 63)
    return _LOW[n & 0x3FFF] + _groups(n >> 14) if n > 0x3FFF else _groups(n)


class Container:
    """A RecordFile of Avro: bodies are copied and never decoded, so none is unread, unless there is a `check`."""

    def __init__(self, schema: Mapping[str, Any], partition: int, codec: Codec, check: Check | None = None) -> None:
        self._schema, self._codec, self._check = schema, codec, check
        self._compress = COMPRESS[codec]
        self._partition = varint(partition)
        self._sync = os.urandom(16)  # a predictable one could be planted in an event and would split the file there
        self._blocks: list[bytes] = []
        self._flights: deque[tuple[Future[_Block], int]] = deque()  # blocks that are being compressed, and their sizes
        self._flying = 0
        self._parts: list[bytes] = []
        self._origins: list[tuple[int, int, bytes | None]] = []  # offset, time and key of what is to be checked
        self._pending = self._stored = self._count = 0
        self.records = 0
        self.unread: list[Encoded] = []

    @property
    def size(self) -> int:
        return self._stored + self._pending + self._flying

    @property
    def length(self) -> int:
        return self.size

    def add(self, offset: int, appended_at: int, body: bytes, key: bytes | None = None) -> None:
        self.extend(offset, (appended_at,), (body,), (key,), len(body))

    def extend(
        self, first: int, times: Sequence[int], bodies: Sequence[bytes], keys: Sequence[bytes | None], size: int
    ) -> None:
        """In a third of the time of one by one, or less."""
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
        """How many more records the block may have, as far as only the low bits of their offsets differ."""
        return min(BLOCK_RECORDS - self._count, _SAME_HIGH - first % _SAME_HIGH)

    def _append(
        self,
        first: int,
        times: Sequence[int],
        bodies: Sequence[bytes],
        keys: Sequence[bytes | None],
        size: int,
    ) -> None:
        """Adds records of one block, whose offsets have the same high bits."""
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
        """The envelope's second and third field, in two parts: of offsets only the two lowest groups of bits differ."""
        n, count = first << 1, len(times)
        if n > 0x3FFF:
            lows, high = _LOW[n & 0x3FFF : (n & 0x3FFF) + 2 * count : 2], _groups(n >> 14)
        else:
            lows, high = [varint(offset) for offset in range(first, first + count)], b""
        ends = {time: high + _time(time) for time in set(times)}
        return lows, list(map(ends.__getitem__, times))

    def finish(self) -> int:
        if self._count:
            self._close_block()
        self._land(0)
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
        self._flights.append((_pool().submit(self._block, self._count, parts, self._origins), self._pending))
        self._flying += self._pending
        self._parts, self._origins, self._count, self._pending = [], [], 0, 0
        self._land(_IN_FLIGHT)

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

    def _land(self, most: int) -> None:
        """Takes the blocks that are ready; waits until at most so many are not."""
        while self._flights and (len(self._flights) > most or self._flights[0][0].done()):
            flight, size = self._flights.popleft()
            block = flight.result()
            self._blocks.append(block.data)
            self._stored += len(block.data)
            self.records += block.records
            self.unread += block.unread
            self._flying -= size


@dataclass(frozen=True, slots=True)
class _Block:
    """A block of a file, and what of it is not in it."""

    data: bytes
    records: int
    unread: list[Encoded]


@cache
def _pool() -> ThreadPoolExecutor:
    """Of all containers: compression leaves the interpreter to who fills the next block."""
    return ThreadPoolExecutor(min(4, os.cpu_count() or 1), thread_name_prefix="compress")


def _deflate(data: bytes) -> bytes:
    raw = zlib.compressobj(6, zlib.DEFLATED, -15)  # without zlib's header, as Avro wants it
    return raw.compress(data) + raw.flush()


# Level 3 takes up to twice the time, and gave 99 to 103 % of the size: real page views and simulated ones. Tables as
# small as these, which a core's nearest cache holds, save a sixth of level 1's time at the same size.
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
