"""When to close a file. Pure: sizes, offsets and a monotonic age in, a reason out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from infra.rules import Sink
from storage.layout import BUCKET

Why = Literal["bytes", "records", "age", "bucket", "cut", "schema", "memory", "released"]


@dataclass(frozen=True, slots=True)
class Limits:
    """Size in bytes as stored, number of records, age in seconds since the file's first offset."""

    max_bytes: int
    max_records: int
    max_age_seconds: float

    @classmethod
    def of(cls, sink: Sink) -> Limits:
        return cls(sink.max_bytes, sink.max_records, sink.max_age_seconds)


@dataclass(frozen=True, slots=True)
class OpenFile:
    """What a file in memory answers for so far: offsets first <= offset < end, of which `records` were added."""

    first: int
    end: int
    records: int
    size: int
    age_seconds: float


def due(limits: Limits, file: OpenFile, cut: int = 0) -> Why | None:
    """Why this file is to be closed now, None when it may grow. `cut` is the end of the newest cut, in offsets.

    A cut waits for a file that holds offsets before its end, once all of them have been read.
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
