"""What one owner has read of one partition and not yet published: records in, sealed files out. No I/O.

Every offset from `position` on ends in exactly one of three ways: in the file, in the quarantine file of the same
name, or in the file's list of gaps. A sealed file checks that sum before it leaves.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from operator import itemgetter
from typing import Any

from ingest import codec
from ingest.errors import CodecError
from storage.containers import (
    Check,
    Codec,
    Container,
    FileInfo,
    Format,
    Gap,
    Reason,
    RecordFile,
    Span,
    body_fields,
    event_envelope,
    plain_body,
    plain_envelope,
)
from storage.errors import ContainerError
from storage.layout import BUCKET, Layout, split
from storage.rolling import Limits, OpenFile, Why, due
from storage.schemas import Registry, transcoder

Record = tuple[int, int, bytes | None, bytes | None]  # offset, Kafka's time in milliseconds, key, value


@dataclass(frozen=True, slots=True)
class Records:
    """Records by column, of equal length: the hot path makes no tuple for each."""

    offsets: Sequence[int]
    times: Sequence[int]
    keys: Sequence[bytes | None]
    values: Sequence[bytes | None]

    @classmethod
    def of(cls, rows: Iterable[Record]) -> Records:
        columns = list(zip(*rows, strict=True))
        return cls(*columns) if columns else cls((), (), (), ())

    def __len__(self) -> int:
        return len(self.offsets)

    def __getitem__(self, part: slice) -> Records:
        return Records(self.offsets[part], self.times[part], self.keys[part], self.values[part])

    def __add__(self, other: Records) -> Records:
        return Records.of([*self.rows(), *other.rows()])

    @property
    def size(self) -> int:
        """Bytes of memory, about."""
        return sum(len(key or b"") + len(value or b"") + _ASIDE_OVERHEAD for _, _, key, value in self.rows())

    def rows(self) -> Iterator[Record]:
        return zip(self.offsets, self.times, self.keys, self.values, strict=True)


NONE = Records.of(())
_CHECK_EVERY = 1_000  # records between two looks at the limits
_ASIDE_OVERHEAD = 200  # bytes that Python's objects take beside what they hold
_GAP_BYTES = 200  # the same of a gap
_GAP_LENGTH = 40  # in the file's header


@dataclass(frozen=True, slots=True)
class Sealed:
    """A finished file: `name` is its path below raw(partition), `quarantine` the bytes of its sister there, if any."""

    name: str
    info: FileInfo
    chunks: deque[bytes]
    quarantine: deque[bytes]
    why: Why
    size: int  # of both, in bytes

    @property
    def left(self) -> int:
        """Bytes that have not been taken from them."""
        return sum(map(len, [*self.chunks, *self.quarantine]))


class PartitionWriter:
    """Fills files with one partition's records. With a `registry` values are events, without they are landed as they
    are.

    `end` is the next offset expected, `unknown` the fingerprint that stopped the last append, `sealed` what is
    finished.
    """

    def __init__(
        self,
        layout: Layout,
        partition: int,
        position: int,
        *,
        format_: Format = "avro",
        codec_: Codec,
        check: bool = False,
        limits: Limits,
        registry: Registry | None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._layout, self._partition = layout, partition
        self._format, self._codec, self._check = format_, codec_, check
        self._limits, self._registry, self._now = limits, registry, now
        self._print = b"" if registry is None else codec.FINGERPRINT  # of the file's schema
        self._prefix = b""  # of values that have it; none until the first was seen
        self._upwards: dict[bytes, Callable[[bytes], bytes]] = {}  # from older schemas to the file's
        self.end = position
        self.sealed: deque[Sealed] = deque()
        self.unknown: bytes | None = None
        self._given_up: Collection[bytes] = ()
        self._begin()

    @property
    def size(self) -> int:
        """Bytes of memory of the file that is open."""
        return (self._container.size if self._container else 0) + self._aside_size + _GAP_BYTES * len(self._gaps)

    def append(self, records: Records, why_gap: Callable[[int], Reason], given_up: Collection[bytes] = ()) -> int:
        """Adds records in order of offsets; how many were taken: less than all when `unknown` stopped it.

        Offsets before `end` are repetitions and skipped. `why_gap(offset)` says why there is none from that offset on;
        unknown schemas whose fingerprints are `given_up` don't stop it, but their records are quarantined.
        """
        self.unknown, self._given_up = None, given_up
        taken = 0
        while taken < len(records):
            some = records[taken : taken + max(1, self._check_at - self.end + 1)]
            if not self._append_run(some):
                added = self._append_each(some, why_gap)
                if added < len(some):
                    return taken + added
            taken += len(some)
        return taken

    def _append_run(self, records: Records) -> bool:
        """Adds them all at once if they follow without a gap and have the file's schema; else none, and False."""
        if not self._prefix:
            return False
        values: Any = records.values
        if list(records.offsets) != list(range(self.end, self.end + len(records))):
            return False
        try:
            bodies = list(map(bytes.removeprefix, values, repeat(self._prefix)))
        except TypeError:  # of one that has no value
            return False
        size = sum(map(len, bodies))
        if sum(map(len, values)) - size != len(self._prefix) * len(values):
            return False
        (self._container or self._open()).extend(self.end, records.times, bodies, records.keys, size)
        self.end += len(values)
        if self.end > self._check_at:
            self.roll()
        return True

    def _append_each(self, records: Records, why_gap: Callable[[int], Reason]) -> int:
        """Adds records one by one; how many were taken."""
        plain = self._registry is None
        for taken, (offset, appended_at, key, value) in enumerate(records.rows()):
            if offset != self.end:
                if offset < self.end:
                    continue
                self.skip(offset - 1, why_gap(self.end))
            body: bytes | None
            if plain:
                body = plain_body(key, value)
            elif value is not None and self._prefix and value.startswith(self._prefix):
                body = value[codec.HEADER_SIZE :]
            else:
                body, readable_later = self._other(value)
                if readable_later:
                    return taken
            if body is None:
                self._set_aside(offset, appended_at, key, value)
            else:
                (self._container or self._open()).add(offset, appended_at, body, key)
            self.end = offset + 1
            if offset >= self._check_at:
                self.roll()
        return len(records)

    def skip(self, last: int, reason: Reason) -> None:
        """Says that the offsets from `end` to `last` don't exist."""
        for first, stop in split(self.end, last):
            self._started()
            self._gaps.append((first, stop, reason))
            self.end = stop + 1
            if self.end % BUCKET == 0:
                self.roll()

    def roll(self, cut: int = 0) -> None:
        """Seals the open file if it is due; `cut` is the end of the newest cut."""
        age = 0.0 if self._opened_at is None else self._now() - self._opened_at
        records = self.end - self._first
        length = (self._container.length if self._container else 0) + self._aside_size + _GAP_LENGTH * len(self._gaps)
        why = due(self._limits, OpenFile(self._first, self.end, records, length, age), cut)
        if why:
            self.seal(why)
        else:
            step = min(_CHECK_EVERY, max(1, self._limits.max_records - records))
            self._check_at = min(self.end + step, (self.end // BUCKET + 1) * BUCKET) - 1

    def seal(self, why: Why) -> None:
        """Finishes the open file, if it answers for any offset, and begins the next."""
        if self.end > self._first:
            self.sealed.append(self._finish(why))
        self._begin()

    def _begin(self) -> None:
        self._first = self.end
        self._opened_at: float | None = None
        self._container: RecordFile | None = None
        self._aside: list[Record] = []
        self._aside_size = 0
        self._gaps: list[Gap] = []
        self._check_at = self.end  # the first record looks at the limits and sets the next look

    def _finish(self, why: Why) -> Sealed:
        first, last = self._first, self.end - 1
        container = self._container or self._open()
        records = container.finish()
        for offset, appended_at, key, body in container.unread:
            self._set_aside(offset, appended_at, key, self._prefix + body)
        self._aside.sort(key=itemgetter(0))
        range_ = (self._layout.topic, self._partition, first, last)
        gaps, aside = tuple(self._gaps), spans(offset for offset, *_ in self._aside)
        info = FileInfo(*range_, records, aside, gaps, self._print.hex() if self._print else "")
        elsewhere = sum(b - a + 1 for a, b in aside) + sum(b - a + 1 for a, b, _ in gaps)
        if info.records + elsewhere != last - first + 1:
            raise ContainerError(f"{info} does not account for each of its offsets")
        quarantine: list[bytes] = []
        if self._aside:
            sister = self._new(plain_envelope())
            for offset, appended_at, key, value in self._aside:
                sister.add(offset, appended_at, plain_body(key, value), key)
            if sister.finish() != len(self._aside):
                raise ContainerError(f"the quarantine of {info} lacks records")
            quarantine = sister.file(FileInfo(*range_, len(self._aside)))
        name = self._layout.file(self._partition, first, last, self._format)
        chunks = container.file(info)
        size = sum(map(len, chunks)) + sum(map(len, quarantine))
        return Sealed(name, info, deque(chunks), deque(quarantine), why, size)

    def _started(self) -> None:
        if self._opened_at is None:
            self._opened_at = self._now()

    def _open(self) -> RecordFile:
        self._started()
        if self._registry is None:
            schema = plain_envelope()
        elif self._print in self._registry:
            schema = event_envelope(self._registry[self._print])
        else:  # nothing readable came yet, but a file of gaps needs a schema too
            schema = event_envelope(codec.SCHEMA)
        self._container = self._new(schema)
        return self._container

    def _new(self, schema: Mapping[str, Any]) -> RecordFile:
        if self._format == "parquet":
            from storage.parquet import ParquetFile  # it needs what not every installation has

            return ParquetFile(schema, self._partition)
        return Container(schema, self._partition, self._codec, self._check_of(schema))

    def _check_of(self, schema: Mapping[str, Any]) -> Check | None:
        """Of bodies that others encoded; our own plain envelopes need none."""
        if not self._check or schema == plain_envelope():
            return None
        from storage.bodies import decoder  # it needs what not every installation has

        return decoder(body_fields(schema)).sound

    def _set_aside(self, offset: int, appended_at: int, key: bytes | None, value: bytes | None) -> None:
        self._started()
        self._aside.append((offset, appended_at, key, value))
        self._aside_size += len(key or b"") + len(value or b"") + _ASIDE_OVERHEAD

    def _other(self, value: bytes | None) -> tuple[bytes | None, bool]:
        """The body, in the file's schema, of a value that does not have it: None when it can't be read.

        (None, True), with `unknown` set, when it could be, if only someone published its schema.
        """
        registry = self._registry
        assert registry is not None
        try:
            fingerprint, body = codec.split(value or b"")
            if fingerprint in self._upwards:
                return self._upwards[fingerprint](body), False
        except (CodecError, ContainerError):
            return None, False
        if fingerprint not in registry:
            if fingerprint in self._given_up:
                return None, False
            self.unknown = fingerprint
            return None, True
        if not registry.is_version(fingerprint):
            return None, False  # of somebody who writes something else here
        if not self._prefix or registry.newer(fingerprint, self._print):
            if self._container:
                self.seal("schema")
            self._print, self._prefix, self._upwards = fingerprint, codec.MARKER + fingerprint, {}
            return body, False
        if not registry.extends(self._print, fingerprint):
            return None, False  # it would lose what the file's schema does not know
        self._upwards[fingerprint] = transcoder(registry[fingerprint], registry[self._print])
        return self._other(value)


def spans(offsets: Iterable[int]) -> tuple[Span, ...]:
    """Ascending offsets as the first and last of each row of neighbours."""
    found: list[Span] = []
    for offset in offsets:
        if found and found[-1][1] == offset - 1:
            found[-1] = (found[-1][0], offset)
        else:
            found.append((offset, offset))
    return tuple(found)
