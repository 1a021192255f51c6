"""One Avro container from several that follow one another: blocks are copied as they are where schema and codec agree.

Where only the codec differs blocks are compressed anew; records of an older schema are brought up to the newest one as
the sink does it. The header accounts for each offset of all parts, and that sum is checked as it is at sealing; then
the file is read back, and must hold the very blocks that were handed out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import pairwise
from typing import Any

from storage.blocks import Block, Header, blocks, bodies, read_header, unpack
from storage.containers import COMPRESS, Codec, Container, FileInfo, Gap, Span, varint
from storage.errors import ContainerError, StorageError
from storage.hdfs import Hdfs
from storage.schemas import extends, transcoder


@dataclass(frozen=True, slots=True)
class Target:
    """The envelope's schema, the codec, and the fingerprint of the event's schema, of the file to be written."""

    schema: Mapping[str, Any]
    codec: Codec
    fingerprint: str

    @property
    def event(self) -> Any:
        return next((field["type"] for field in self.schema["fields"] if field["name"] == "event"), None)


def merge(fs: Hdfs, paths: Sequence[str], target: str, codec: Codec) -> FileInfo:
    """Writes the parts as one file under the (temporary) name `target`; what its header says.

    Raises StorageError, with the part's path, for parts that can't be read or do not hold what they say.
    """
    headers = [_header(fs, path) for path in paths]
    aim = newest(headers, codec)
    info = joined([header.info for header in headers], aim.fingerprint)
    head = Container(aim.schema, info.partition, aim.codec).file(info)[0]
    sync, sent = head[-16:], hashlib.blake2b()

    def chunks() -> Iterator[bytes]:
        yield head
        for path, header in zip(paths, headers, strict=True):
            for block in _blocks(fs, path, header, aim):
                digest(sent, block)
                yield framed(block, sync)

    fs.create(target, chunks())
    read_back(fs, target, info, sent.digest())
    return info


def newest(headers: Sequence[Header], codec: Codec) -> Target:
    """The newest schema among those that records were written in: versions only ever gain fields; of equals the last.

    The codec is the one that the parts share, else the one given.
    """
    written = [header for header in headers if header.info.records] or headers
    best = reduce(lambda best, header: header if extends(header.schema, best.schema) else best, written)
    codecs = {header.codec for header in written}
    return Target(best.schema, codecs.pop() if len(codecs) == 1 else codec, best.info.fingerprint)


def joined(infos: Sequence[FileInfo], fingerprint: str) -> FileInfo:
    """The header of the file that answers for all of these, which follow one another. Raises ContainerError."""
    for one, other in pairwise(infos):
        if (one.topic, one.partition, one.last + 1) != (other.topic, other.partition, other.first):
            raise ContainerError(f"{other.first} does not follow {one.last} in {one.topic} p={one.partition}")
    first, last = infos[0].first, infos[-1].last
    quarantined: list[Span] = []
    gaps: list[Gap] = []
    for info in infos:
        for span in info.quarantined:
            if quarantined and quarantined[-1][1] + 1 == span[0]:
                quarantined[-1] = quarantined[-1][0], span[1]
            else:
                quarantined.append(span)
        for gap in info.gaps:
            if gaps and gaps[-1][1] + 1 == gap[0] and gaps[-1][2] == gap[2]:
                gaps[-1] = gaps[-1][0], gap[1], gap[2]
            else:
                gaps.append(gap)
    records = sum(info.records for info in infos)
    elsewhere = _length(quarantined) + _length(gaps)
    if records + elsewhere != last - first + 1:
        raise ContainerError(f"the parts of {first}..{last} do not account for each of its offsets")
    place = (infos[0].topic, infos[0].partition, first, last)
    return FileInfo(*place, records, tuple(quarantined), tuple(gaps), fingerprint)


def says_the_same(larger: FileInfo, part: FileInfo) -> bool:
    """Whether the larger file's header says of the part's offsets what the part's own says."""

    def within(spans: Sequence[Any]) -> set[Any]:
        """Spans within the part, cut at its ends."""
        cut = ((max(s[0], part.first), min(s[1], part.last), *s[2:]) for s in spans)
        return {s for s in cut if s[0] <= s[1]}

    def coarse(spans: Sequence[Any]) -> set[Any]:
        """Neighbours of one kind made one, as `joined` does."""
        found: list[Any] = []
        for span in spans:
            if found and found[-1][1] + 1 == span[0] and found[-1][2:] == span[2:]:
                found[-1] = found[-1][0], *span[1:]
            else:
                found.append(span)
        return set(found)

    covers = (larger.topic, larger.partition) == (part.topic, part.partition)
    inside = larger.first <= part.first and part.last <= larger.last
    elsewhere = _length(part.quarantined) + _length(part.gaps)
    return (
        covers
        and inside
        and part.records + elsewhere == part.last - part.first + 1
        and within(larger.quarantined) == coarse(part.quarantined)
        and within(larger.gaps) == coarse(part.gaps)
    )


def _length(spans: Sequence[Any]) -> int:
    """Offsets in spans or gaps."""
    return sum(span[1] - span[0] + 1 for span in spans)


def _header(fs: Hdfs, path: str) -> Header:
    with fs.open(path) as file:
        try:
            return read_header(file)
        except ContainerError as error:
            raise StorageError(path, str(error)) from error


def _blocks(fs: Hdfs, path: str, header: Header, aim: Target) -> Iterator[Block]:
    """The part's blocks, as the target has them. Raises StorageError when it does not hold what its header says."""
    count = 0
    with fs.open(path) as file:
        try:
            again = read_header(file)
            for block in blocks(file, again):
                count += block.count
                yield _converted(again, block, aim)
        except ContainerError as error:
            raise StorageError(path, str(error)) from error
    if (count, again) != (header.info.records, header):
        raise StorageError(path, f"{count} records, but its header says {header.info.records}")


def _converted(header: Header, block: Block, aim: Target) -> Block:
    if header.schema != aim.schema:
        upwards = transcoder(header.event, aim.event)
        data = b"".join(
            varint(partition) + varint(offset) + varint(appended_at) + upwards(body)
            for partition, offset, appended_at, body in bodies(header, block)
        )
    elif header.codec != aim.codec:
        data = unpack(header, block)
    else:
        return block
    return Block(block.count, COMPRESS[aim.codec](data))


def read_back(fs: Hdfs, path: str, info: FileInfo, sent: bytes) -> None:
    """Raises StorageError unless the file holds the blocks of which `digest` made `sent`, and says what it must."""
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
    """The block as it stands in a file."""
    return b"".join((varint(block.count), varint(len(block.data)), block.data, sync))


def digest(so_far: Any, block: Block) -> None:
    """Takes a block into the hash `so_far`."""
    so_far.update(varint(block.count) + varint(len(block.data)))
    so_far.update(block.data)
