"""Reads Avro containers block by block: undecoded for copies, decoded for records. No I/O but on the file given."""

from __future__ import annotations

import io
import json
import sys
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, BinaryIO

import fastavro
from fastavro.schema import parse_schema

from ingest.event.codec import schema_fingerprint, without_logical_types
from storage.errors import ContainerError
from storage.formats.avro.writer import MAGIC
from storage.formats.envelope import varint
from storage.formats.file_info import FileInfo
from storage.formats.format import Codec, Row

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_HEADER = parse_schema(
    {
        "type": "record",
        "name": "Header",
        "fields": [
            {"name": "magic", "type": {"type": "fixed", "name": "Magic", "size": 4}},
            {"name": "meta", "type": {"type": "map", "values": "bytes"}},
            {"name": "sync", "type": {"type": "fixed", "name": "Sync", "size": 16}},
        ],
    }
)
_LONG = parse_schema("long")


@dataclass(frozen=True, slots=True)
class Header:
    """The header of a container; `schema` is the envelope's."""

    info: FileInfo
    schema: Mapping[str, Any]
    codec: Codec
    sync: bytes

    @property
    def event(self) -> Any:
        """The event's schema; None in a file of plain envelopes."""
        return next((field["type"] for field in self.schema["fields"] if field["name"] == "event"), None)


@dataclass(frozen=True, slots=True)
class Block:
    """A block of `count` records, compressed by the file's codec."""

    count: int
    data: bytes


def _inflate(data: bytes) -> bytes:
    return zlib.decompress(data, -15)


_DECOMPRESS: dict[Codec, Callable[[bytes], bytes]] = {
    "zstandard": zstd.decompress,
    "deflate": _inflate,
    "null": lambda data: data,
}


def read_metadata(head: bytes) -> FileInfo:
    """The FileInfo in a container's first bytes. Raises ContainerError, `truncated` if they are too few."""
    if head[:4] != MAGIC[: len(head)]:
        raise ContainerError("not an Avro container")
    return FileInfo.from_metadata(_header(io.BytesIO(head))["meta"])


def read_header(file: BinaryIO) -> Header:
    """Reads the header, up to the first block. Raises ContainerError."""
    found = _header(file)
    meta = found["meta"]
    try:
        schema, codec = json.loads(meta["avro.schema"]), meta.get("avro.codec", b"null").decode()
    except (KeyError, ValueError) as error:
        raise ContainerError(f"not an Avro container: {error!r}") from error
    if codec not in _DECOMPRESS:
        raise ContainerError(f"codec {codec!r} is none of ours")
    return Header(FileInfo.from_metadata(meta), schema, codec, found["sync"])


def _header(file: Any) -> Any:
    try:
        return fastavro.schemaless_reader(file, _HEADER, None)
    except (EOFError, IndexError):  # fastavro raises the latter for a truncated number
        raise ContainerError("its header is cut short", truncated=True) from None
    except Exception as error:  # fastavro has no common error for garbled input
        raise ContainerError(f"not an Avro container: {error!r}") from error


def blocks(file: BinaryIO, header: Header) -> Iterator[Block]:
    """The blocks after the header. Raises ContainerError where the file is truncated or garbled."""
    while (count := _long(file)) is not None:
        size = _long(file)
        if size is None or size < 0 or count < 0:
            raise ContainerError("a block that is cut short")
        data, sync = file.read(size), file.read(16)
        if len(data) < size or sync != header.sync:
            raise ContainerError("a block that does not end in the file's sync marker")
        yield Block(count, data)


def unpack(header: Header, block: Block) -> bytes:
    """The block's encoded records, decompressed. Raises ContainerError."""
    try:
        return _DECOMPRESS[header.codec](block.data)
    except Exception as error:
        raise ContainerError(f"a block that is not {header.codec}: {error!r}") from error


def bodies(header: Header, block: Block) -> Iterator[tuple[int, int, int, bytes]]:
    """(partition, offset, appended_at, encoded event) of each record. Raises ContainerError."""
    event = parse_schema(without_logical_types(header.event))
    for stream, head in _envelopes(header, block):
        start = stream.tell()
        _decode(stream, event)
        stop = stream.tell()
        stream.seek(start)
        yield *head, stream.read(stop - start)


def encoded_rows(header: Header, data: bytes, count: int) -> Iterator[tuple[bytes, Any]]:
    """(encoding, fields by name) of each record of a decompressed block. Raises ContainerError."""
    schema, stream = parse_schema(without_logical_types(header.schema)), io.BytesIO(data)
    for _ in range(count):
        start = stream.tell()
        record = _decode(stream, schema)
        yield data[start : stream.tell()], record
    if stream.tell() != len(data):
        raise ContainerError(f"{len(data) - stream.tell()} bytes in a block after its last record")


def encoded(header: Header, record: Mapping[str, Any]) -> bytes:
    """Encodes a record by the file's schema."""
    out = io.BytesIO()
    fastavro.schemaless_writer(out, parse_schema(without_logical_types(header.schema)), dict(record))
    return out.getvalue()


def rows(file: BinaryIO) -> Iterator[Row]:
    """The records, decoded by the schema in the file. Raises ContainerError at the first that does not follow it."""
    header = read_header(file)
    event = header.event
    if event is not None and header.info.fingerprint not in ("", _fingerprint(json.dumps(event))):
        raise ContainerError(f"the schema in it has not the fingerprint {header.info.fingerprint} that its header says")
    plain = without_logical_types(header.schema)
    every = parse_schema({"type": "array", "items": plain})
    tail = parse_schema(without_logical_types(event) if event is not None else _plain(plain))
    for block in blocks(file, header):
        for row in _together(header, block, every) or _one_by_one(header, block, tail):
            body = row["event"] if event is not None else (row["key"], row["value"])
            yield row["partition"], row["offset"], row["appended_at"], body


def _together(header: Header, block: Block, every: Any) -> list[Any]:
    """The block's records, decoded in one call as items of an Avro array; empty if any of them can't be decoded.

    An array's encoding is the records' with a number before and behind.
    """
    stream = io.BytesIO(b"".join((varint(block.count), unpack(header, block), b"\x00")))
    try:
        found: list[Any] = _decode(stream, every)
    except ContainerError:
        return []
    return found if len(found) == block.count and not stream.read(1) else []


def _one_by_one(header: Header, block: Block, tail: Any) -> Iterator[Any]:
    """The block's records one by one. Raises ContainerError at the first that can't be decoded."""
    names = ("partition", "offset", "appended_at")
    for stream, head in _envelopes(header, block):
        body = _decode(stream, tail)
        yield dict(zip(names, head, strict=True)) | (body if header.event is None else {"event": body})


@lru_cache(64)
def _fingerprint(schema: str) -> str:
    return schema_fingerprint(json.loads(schema)).hex()


def _plain(envelope: Any) -> dict[str, Any]:
    """The record of a plain envelope's key and value."""
    return {**envelope, "fields": envelope["fields"][3:]}


def _envelopes(header: Header, block: Block) -> Iterator[tuple[io.BytesIO, tuple[int, int, int]]]:
    """(stream at the record's fourth field, first three fields) of each record; the caller reads on from there."""
    data = unpack(header, block)
    stream = io.BytesIO(data)
    for _ in range(block.count):
        partition, offset, appended_at = (_decode(stream, _LONG) for _ in range(3))
        yield stream, (partition, offset, appended_at)
    if stream.tell() != len(data):
        raise ContainerError(f"{len(data) - stream.tell()} bytes in a block after its last record")


def _decode(stream: io.BytesIO, schema: Any) -> Any:
    try:
        return fastavro.schemaless_reader(stream, schema, None)
    except Exception as error:
        raise ContainerError(f"a record that does not follow the file's schema: {error!r}") from error


def _long(file: BinaryIO) -> int | None:
    """Reads an Avro long; None at the end of the file."""
    n = shift = 0
    while byte := file.read(1):
        n, shift = n | (byte[0] & 0x7F) << shift, shift + 7
        if byte[0] < 0x80:
            return (n >> 1) ^ -(n & 1)
    if shift:
        raise ContainerError("a number that is cut short")
    return None
