"""When to close a file: a pure function of its size, offsets and age."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from infra.settings.jobs import Sink
from storage.layout import BUCKET

Why = Literal["bytes", "records", "age", "bucket", "cut", "schema", "memory", "released"]


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of a file: bytes as stored, number of records, seconds since its first offset came."""

    max_bytes: int
    max_records: int
    max_age_seconds: float

    @classmethod
    def of(cls, sink: Sink) -> Limits:
        return cls(sink.max_bytes, sink.max_records, sink.max_age_seconds)


@dataclass(frozen=True, slots=True)
class OpenFile:
    """A file in memory: offsets first <= offset < end, in `records` records and gaps; `size` in bytes as stored."""

    first: int
    end: int
    records: int
    size: int
    age_seconds: float


def due(limits: Limits, file: OpenFile, cut: int = 0) -> Why | None:
    """Why the file is to be closed now; None if it may grow. `cut`: end offset of the newest cut.

    A file with offsets before that end is closed as soon as all of them were read.
    """
    if file.end == file.first:
        return None
    if file.end // BUCKET != file.first // BUCKET:
        return "bucket"
    if file.size >= limits.max_bytes:
        return "bytes"
    if file.records >= limits.max_records:
        return "records"
    if file.first < cut <= file.end:
        return "cut"
    if file.age_seconds >= limits.max_age_seconds:
        return "age"
    return None
