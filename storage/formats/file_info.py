"""FileInfo: the metadata in a landed file's header or footer, the same in every format.

    clickstream.topic, .partition, .first, .last     the range of offsets that the file answers for, both included
    clickstream.records                              how many of them are in the file
    clickstream.quarantined [[first, last] …]        those that lie in the file of the same name under quarantine/
    clickstream.gaps [[first, last, reason] …]       those that don't exist: "kafka" explains them, or they are "lost"
    clickstream.fingerprint, .writer                 the event schema's, in hex; who wrote it

In a file of raw/, records + quarantined + gaps = last - first + 1, always. The file of the same name under quarantine/
has the same range and only says how many records it holds.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from itertools import pairwise
from typing import Any, Literal

from storage.errors import ContainerError

Reason = Literal["kafka", "lost"]
Span = tuple[int, int]  # first and last offset
Gap = tuple[int, int, Reason]


@cache
def this_version() -> str:
    """The writer's name in metadata: this package and its version."""
    try:
        return f"clickstream {version('clickstream')}"
    except PackageNotFoundError:  # in a job's container the code is a zip
        return "clickstream"


@dataclass(frozen=True, slots=True)
class FileInfo:
    """Metadata of a landed file. `fingerprint`: the event schema's, in hex; empty for plain envelopes."""

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
        """Raises ContainerError if an entry is missing or garbled."""
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


def joined(infos: Sequence[FileInfo], fingerprint: str) -> FileInfo:
    """The metadata of one file in place of these, which must follow one another. Raises ContainerError."""
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
    """Whether the larger file's metadata agree with the part's about the part's offsets."""

    def within(spans: Sequence[Any]) -> set[Any]:
        """Spans within the part, clipped to its range."""
        cut = ((max(s[0], part.first), min(s[1], part.last), *s[2:]) for s in spans)
        return {s for s in cut if s[0] <= s[1]}

    def coarse(spans: Sequence[Any]) -> set[Any]:
        """Adjacent spans of one kind merged, as in `joined`."""
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
    """Number of offsets in spans or gaps."""
    return sum(span[1] - span[0] + 1 for span in spans)
