"""Erases people from a landed Avro file, whose header and offsets stay the same."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

from ingest.event.anonymise import People, anonymised
from storage.formats.avro.blocks import Block, Header, blocks, encoded, encoded_rows, read_header, unpack
from storage.formats.avro.merge import digest, framed, read_back
from storage.formats.avro.writer import COMPRESS
from storage.hdfs import Hdfs
from storage.rewrite import rewrite


def erase_file(fs: Hdfs, path: str, people: People) -> int:
    """Format.erase for Avro. Raises StorageError, ContainerError."""
    with fs.open(path) as file:
        header = read_header(file)
        size = file.tell()
        if not any(_changed(header, block, people)[1] for block in blocks(file, header)):
            return 0
    return _write(fs, path, header, fs.read_head(path, size), people)


def _write(fs: Hdfs, path: str, header: Header, head: bytes, people: People) -> int:
    sent, counts = hashlib.blake2b(), []

    def chunks() -> Iterator[bytes]:
        yield head
        with fs.open(path) as file:
            for block in blocks(file, read_header(file)):
                changed, count = _changed(header, block, people)
                counts.append(count)
                digest(sent, changed)
                yield framed(changed, header.sync)

    def write(unfinished: str) -> None:
        fs.create(unfinished, chunks())
        read_back(fs, unfinished, header.info, sent.digest())

    rewrite(fs, path, write, overwrite=True)
    return sum(counts)


def _changed(header: Header, block: Block, people: People) -> tuple[Block, int]:
    """The block without these people, and the number of records that changed."""
    data = unpack(header, block)
    if not people.named_in(data):
        return block, 0
    records, count = [], 0
    for bytes_, record in encoded_rows(header, data, block.count):
        new = _without(record, people)
        count += new is not None
        records.append(bytes_ if new is None else encoded(header, new))
    return (Block(block.count, COMPRESS[header.codec](b"".join(records))), count) if count else (block, 0)


def _without(record: dict[str, Any], people: People) -> dict[str, Any] | None:
    """The envelope, anonymised; None if it is not about these people."""
    if "event" in record:
        return record | {"event": anonymised(record["event"])} if people.own(record["event"]) else None
    own = people.own_plain(record["appended_at"], record["key"], record["value"])
    return record | {"key": None, "value": None} if own else None
