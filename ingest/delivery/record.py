"""A record for Kafka, and what it takes in the spool. Pure."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import msgspec

PAGE = 4096  # bytes of the spool's pages
_ROW = 48  # bytes of a row beside its record


class Record(msgspec.Struct, frozen=True, gc=False):
    """One Kafka record; a key of None lets the producer spread it."""

    topic: str
    key: bytes | None
    value: bytes


def disk_size(records: Sequence[Record]) -> int:
    """Upper bound of the records' bytes on disk: up to a third of a page stays empty, long values use whole pages."""
    size = PAGE
    for record in records:
        own = len(record.topic) + len(record.key or b"") + len(record.value) + _ROW
        size += own * 3 // 2 if own < PAGE // 2 else own + 2 * PAGE
    return size


def checksum(record: Record) -> int:
    """CRC-32 of topic, key and value."""
    return zlib.crc32(record.value, zlib.crc32(record.key or b"", zlib.crc32(record.topic.encode())))
