"""Fills files with the records of one partition: records in, sealed files out. No I/O.

Every offset from `position` on goes to exactly one of three places: the file, the quarantine file of the same name, or
the file's list of gaps. That sum is checked when a file is sealed.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from operator import itemgetter
from typing import Any

from ingest.errors import CodecError
from ingest.event import codec
from storage.errors import ContainerError
from storage.formats.envelope import event_envelope, plain_body, plain_envelope
from storage.formats.file_info import FileInfo, Gap, Reason, Span
from storage.formats.format import Codec, Format, RecordFile
from storage.formats.schemas import SchemaRegistry, transcoder
from storage.layout import BUCKET, Layout, split
from storage.sink.rolling import Limits, OpenFile, Why, due

KafkaRecord = tuple[int, int, bytes | None, bytes | None]  # offset, Kafka's time in milliseconds, key, value


@dataclass(frozen=True, slots=True)
class Records:
    """Records as columns of equal length, so that the hot path makes no tuple for each record."""

    offsets: Sequence[int]
    times: Sequence[int]
    keys: Sequence[bytes | None]
    values: Sequence[bytes | None]

    @classmethod
    def of(cls, rows: Iterable[KafkaRecord]) -> Records:
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
        """Bytes in memory, approximately."""
        return sum(len(key or b"") + len(value or b"") + _RECORD_OVERHEAD for _, _, key, value in self.rows())

    def rows(self) -> Iterator[KafkaRecord]:
        return zip(self.offsets, self.times, self.keys, self.values, strict=True)


NO_RECORDS = Records.of(())
_CHECK_EVERY = 1_000  # records between two checks of the limits
_RECORD_OVERHEAD = 200  # bytes of a quarantined record's Python objects
_GAP_BYTES = 200  # of a gap in memory
_GAP_LENGTH = 40  # bytes of a gap in the file's header


@dataclass(frozen=True, slots=True)
class Sealed:
    """A finished file. `name`: its path below raw(partition). `quarantine`: its quarantine file, empty if none."""

    name: str
    info: FileInfo
    chunks: deque[bytes]
    quarantine: deque[bytes]
    why: Why
    size: int  # of both, in bytes

    @property
    def unwritten(self) -> int:
        """Bytes that are not written to HDFS yet."""
        return sum(map(len, [*self.chunks, *self.quarantine]))


class PartitionWriter:
    """Fills files with one partition's records: events if there is a `registry`, else plain keys and values.

    `end`: the next offset expected. `unknown_schema`: the fingerprint that stopped the last append. `sealed`: finished
    files.
    """

    def __init__(
        self,
        layout: Layout,
        partition: int,
        position: int,
        *,
        format_: Format,
        codec_: Codec,
        check: bool = False,
        limits: Limits,
        registry: SchemaRegistry | None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._layout, self._partition = layout, partition
        self._format, self._codec, self._check = format_, codec_, check
        self._limits, self._registry, self._now = limits, registry, now
        self._fingerprint = b"" if registry is None else codec.FINGERPRINT  # of the file's schema
        self._prefix = b""  # of values of that schema; empty until the first one was seen
        self._transcoders: dict[bytes, Callable[[bytes], bytes]] = {}  # older fingerprint -> to the file's schema
        self.end = position
        self.sealed: deque[Sealed] = deque()
        self.unknown_schema: bytes | None = None
        self._quarantined_schemas: Collection[bytes] = ()
        self._begin()

    @property
    def size(self) -> int:
        """Bytes of memory of the file that is open."""
        return (self._container.size if self._container else 0) + self._quarantined_size + _GAP_BYTES * len(self._gaps)

    def append(
        self, records: Records, why_gap: Callable[[int], Reason], quarantined_schemas: Collection[bytes] = ()
    ) -> int:
        """Adds records in order of offsets; returns how many, which is less than all if a schema is unknown.

        Offsets before `end` are repetitions and skipped. `why_gap(offset)` returns the reason of a gap that starts
        there. Records of schemas in `quarantined_schemas` (fingerprints) are quarantined if their schema is unknown.
        """
        self.unknown_schema, self._quarantined_schemas = None, quarantined_schemas
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
        """Adds all records at once if they have no gap and the file's schema; otherwise adds none and returns False."""
        if not self._prefix:
            return False
        values: Any = records.values
        if list(records.offsets) != list(range(self.end, self.end + len(records))):
            return False
        try:
            bodies = list(map(bytes.removeprefix, values, repeat(self._prefix)))
        except TypeError:  # a record has no value
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
        """Adds records one by one; returns how many."""
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
                body, readable_later = self._body_of(value)
                if readable_later:
                    return taken
            if body is None:
                self._quarantine(offset, appended_at, key, value)
            else:
                (self._container or self._open()).add(offset, appended_at, body, key)
            self.end = offset + 1
            if offset >= self._check_at:
                self.roll()
        return len(records)

    def skip(self, last: int, reason: Reason) -> None:
        """Adds a gap from `end` to `last`."""
        for first, stop in split(self.end, last):
            self._started()
            self._gaps.append((first, stop, reason))
            self.end = stop + 1
            if self.end % BUCKET == 0:
                self.roll()

    def roll(self, cut: int = 0) -> None:
        """Seals the open file if it is due. `cut`: end offset of the newest cut."""
        age = 0.0 if self._opened_at is None else self._now() - self._opened_at
        records = self.end - self._first
        length = (
            (self._container.length if self._container else 0) + self._quarantined_size + _GAP_LENGTH * len(self._gaps)
        )
        why = due(self._limits, OpenFile(self._first, self.end, records, length, age), cut)
        if why:
            self.seal(why)
        else:
            step = min(_CHECK_EVERY, max(1, self._limits.max_records - records))
            self._check_at = min(self.end + step, (self.end // BUCKET + 1) * BUCKET) - 1

    def seal(self, why: Why) -> None:
        """Finishes the open file, if it covers any offset, and begins the next."""
        if self.end > self._first:
            self.sealed.append(self._finish(why))
        self._begin()

    def _begin(self) -> None:
        self._first = self.end
        self._opened_at: float | None = None
        self._container: RecordFile | None = None
        self._quarantined: list[KafkaRecord] = []
        self._quarantined_size = 0
        self._gaps: list[Gap] = []
        self._check_at = self.end  # the first record checks the limits, and sets the offset of the next check

    def _finish(self, why: Why) -> Sealed:
        first, last = self._first, self.end - 1
        container = self._container or self._open()
        records = container.finish()
        for offset, appended_at, key, body in container.unread:
            self._quarantine(offset, appended_at, key, self._prefix + body)
        self._quarantined.sort(key=itemgetter(0))
        range_ = (self._layout.topic, self._partition, first, last)
        gaps, quarantined = tuple(self._gaps), spans(offset for offset, *_ in self._quarantined)
        info = FileInfo(*range_, records, quarantined, gaps, self._fingerprint.hex() if self._fingerprint else "")
        elsewhere = sum(b - a + 1 for a, b in quarantined) + sum(b - a + 1 for a, b, _ in gaps)
        if info.records + elsewhere != last - first + 1:
            raise ContainerError(f"{info} does not account for each of its offsets")
        quarantine: list[bytes] = []
        if self._quarantined:
            quarantine_file = self._new(plain_envelope())
            for offset, appended_at, key, value in self._quarantined:
                quarantine_file.add(offset, appended_at, plain_body(key, value), key)
            if quarantine_file.finish() != len(self._quarantined):
                raise ContainerError(f"the quarantine of {info} lacks records")
            quarantine = quarantine_file.file(FileInfo(*range_, len(self._quarantined)))
        name = self._layout.file(self._partition, first, last, self._format.suffix)
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
        elif self._fingerprint in self._registry:
            schema = event_envelope(self._registry[self._fingerprint])
        else:  # no readable record came yet, but a file of gaps needs a schema, too
            schema = event_envelope(codec.SCHEMA)
        self._container = self._new(schema)
        return self._container

    def _new(self, schema: Mapping[str, Any]) -> RecordFile:
        return self._format.writer(schema, self._partition, self._codec, self._check)

    def _quarantine(self, offset: int, appended_at: int, key: bytes | None, value: bytes | None) -> None:
        self._started()
        self._quarantined.append((offset, appended_at, key, value))
        self._quarantined_size += len(key or b"") + len(value or b"") + _RECORD_OVERHEAD

    def _body_of(self, value: bytes | None) -> tuple[bytes | None, bool]:
        """(body in the file's schema, False) of a value of another schema; (None, False) if it can't be read.

        (None, True), with `unknown_schema` set, if its schema is not known yet.
        """
        registry = self._registry
        assert registry is not None
        try:
            fingerprint, body = codec.split(value or b"")
            if fingerprint in self._transcoders:
                return self._transcoders[fingerprint](body), False
        except (CodecError, ContainerError):
            return None, False
        if fingerprint not in registry:
            if fingerprint in self._quarantined_schemas:
                return None, False
            self.unknown_schema = fingerprint
            return None, True
        if not registry.is_version(fingerprint):
            return None, False  # a schema that is no version of the event contract
        if not self._prefix or registry.newer(fingerprint, self._fingerprint):
            if self._container:
                self.seal("schema")
            self._fingerprint, self._prefix, self._transcoders = fingerprint, codec.MARKER + fingerprint, {}
            return body, False
        if not registry.extends(self._fingerprint, fingerprint):
            return None, False  # fields that the file's schema lacks would be lost
        self._transcoders[fingerprint] = transcoder(registry[fingerprint], registry[self._fingerprint])
        return self._body_of(value)


def spans(offsets: Iterable[int]) -> tuple[Span, ...]:
    """Ascending offsets as (first, last) of each run without a gap."""
    found: list[Span] = []
    for offset in offsets:
        if found and found[-1][1] == offset - 1:
            found[-1] = (found[-1][0], offset)
        else:
            found.append((offset, offset))
    return tuple(found)
