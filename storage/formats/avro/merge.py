"""Merges Avro containers that follow one another: blocks are copied unchanged if schema and codec are the same.

If only the codec differs blocks are compressed again; records of an older schema are transcoded to the newest one as in
the sink. The header must account for each offset of all parts. The file is read back and must hold exactly the blocks
that were written.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

from storage.errors import ContainerError, StorageError
from storage.formats.avro.blocks import Block, Header, blocks, bodies, read_header, unpack
from storage.formats.avro.writer import COMPRESS, Container
from storage.formats.envelope import varint
from storage.formats.file_info import FileInfo, joined
from storage.formats.format import Codec
from storage.formats.schemas import extends, transcoder
from storage.hdfs import Hdfs


@dataclass(frozen=True, slots=True)
class Target:
    """Envelope's schema, codec, and fingerprint of the event's schema of the file to be written."""

    schema: Mapping[str, Any]
    codec: Codec
    fingerprint: str

    @property
    def event(self) -> Any:
        return next((field["type"] for field in self.schema["fields"] if field["name"] == "event"), None)


def merge(fs: Hdfs, paths: Sequence[str], target: str, codec: Codec) -> FileInfo:
    """Writes the parts as one file under the temporary path `target`; returns its header.

    Raises StorageError, with the part's path, if a part can't be read or does not hold what its header says.
    """
    headers = [_header(fs, path) for path in paths]
    wanted = newest(headers, codec)
    info = joined([header.info for header in headers], wanted.fingerprint)
    head = Container(wanted.schema, info.partition, wanted.codec).file(info)[0]
    sync, sent = head[-16:], hashlib.blake2b()

    def chunks() -> Iterator[bytes]:
        yield head
        for path, header in zip(paths, headers, strict=True):
            for block in _blocks(fs, path, header, wanted):
                digest(sent, block)
                yield framed(block, sync)

    fs.create(target, chunks())
    read_back(fs, target, info, sent.digest())
    return info


def newest(headers: Sequence[Header], codec: Codec) -> Target:
    """The newest schema with which records were written, and the codec that all parts share, else the given one.

    Newer versions only add fields; of equal schemas the last one is taken.
    """
    written = [header for header in headers if header.info.records] or headers
    best = reduce(lambda best, header: header if extends(header.schema, best.schema) else best, written)
    codecs = {header.codec for header in written}
    return Target(best.schema, codecs.pop() if len(codecs) == 1 else codec, best.info.fingerprint)


def _header(fs: Hdfs, path: str) -> Header:
    with fs.open(path) as file:
        try:
            return read_header(file)
        except ContainerError as error:
            raise StorageError(path, str(error)) from error


def _blocks(fs: Hdfs, path: str, header: Header, wanted: Target) -> Iterator[Block]:
    """The part's blocks, converted for the target. Raises StorageError if it does not hold what its header says."""
    count = 0
    with fs.open(path) as file:
        try:
            again = read_header(file)
            for block in blocks(file, again):
                count += block.count
                yield _converted(again, block, wanted)
        except ContainerError as error:
            raise StorageError(path, str(error)) from error
    if (count, again) != (header.info.records, header):
        raise StorageError(path, f"{count} records, but its header says {header.info.records}")


def _converted(header: Header, block: Block, wanted: Target) -> Block:
    if header.schema != wanted.schema:
        upwards = transcoder(header.event, wanted.event)
        data = b"".join(
            varint(partition) + varint(offset) + varint(appended_at) + upwards(body)
            for partition, offset, appended_at, body in bodies(header, block)
        )
    elif header.codec != wanted.codec:
        data = unpack(header, block)
    else:
        return block
    return Block(block.count, COMPRESS[wanted.codec](data))


def read_back(fs: Hdfs, path: str, info: FileInfo, sent: bytes) -> None:
    """Raises StorageError unless the file has this header and holds the blocks with the digest `sent`."""
    found, count = hashlib.blake2b(), 0
    with fs.open(path) as file:
        try:
            header = read_header(file)
            for block in blocks(file, header):
                digest(found, block)
                count += block.count
        except ContainerError as error:
            raise StorageError(path, str(error)) from error
    if (header.info, count, found.digest()) != (info, info.records, sent):
        raise StorageError(path, f"read back, it is not what was written: {count} of {info.records} records")


def framed(block: Block, sync: bytes) -> bytes:
    """The block as it is written to a file."""
    return b"".join((varint(block.count), varint(len(block.data)), block.data, sync))


def digest(so_far: Any, block: Block) -> None:
    """Adds a block to the hash `so_far`."""
    so_far.update(varint(block.count) + varint(len(block.data)))
    so_far.update(block.data)
