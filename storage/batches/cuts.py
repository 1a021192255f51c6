"""Cuts: how a stream becomes batches.

A cut is the end offset of each partition at one moment; a batch lies between two cuts.

    <cuts>/chain/<number>.json   the cuts in order, each created by one exclusive rename
    <cuts>/<name>.json           the same content by name: what people and Airflow ask for
    <retired>/begins.json        where raw begins, once retention has deleted the batches before
    <retired>/quarantine.json    where quarantine begins

The chain decides: a cut begins where the one before it ends, so two processes that cut at once get two batches without
a common offset. After a crash between the two files the next process writes the second.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_left
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

from storage.errors import BatchError
from storage.hdfs import Entry, Hdfs
from storage.layout import BUCKET, Layout, Range, bucket, visible

Tree = Literal["raw", "quarantine"]
_START_FILES: dict[Tree, str] = {"raw": "begins.json", "quarantine": "quarantine.json"}
_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
_TOGETHER = 512  # cuts that are read in parallel
_LINK = re.compile(r"^(\d{19})\.json$")


@dataclass(frozen=True, slots=True)
class Cut:
    """Batch `number`, from 1: offsets starts[p] <= offset < ends[p] of partitions p.

    `taken_at`: the moment at which the batch ends, in UTC, ISO 8601; never earlier than that of the cut before.
    """

    name: str
    number: int
    topic: str
    taken_at: str
    starts: dict[int, int]
    ends: dict[int, int]

    @property
    def offsets(self) -> int:
        """Number of offsets in the batch."""
        return sum(end - self.starts[p] for p, end in self.ends.items())

    def to_json(self) -> bytes:
        document = {
            "name": self.name,
            "number": self.number,
            "topic": self.topic,
            "taken_at": self.taken_at,
            "starts": {str(p): offset for p, offset in self.starts.items()},
            "ends": {str(p): offset for p, offset in self.ends.items()},
        }
        return json.dumps(document, indent=1).encode()

    @classmethod
    def from_json(cls, data: bytes) -> Cut:
        """Raises BatchError if it can't be parsed."""
        try:
            document = json.loads(data)
            starts, ends = ({int(p): int(o) for p, o in document[key].items()} for key in ("starts", "ends"))
            return cls(document["name"], document["number"], document["topic"], document["taken_at"], starts, ends)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise BatchError(f"not a cut: {error!r}") from error


@dataclass(frozen=True, slots=True)
class TreeStart:
    """A tree holds what comes after batch `number`: offsets from `offsets[p]` on, from 0 if p is not named."""

    number: int = 0
    offsets: dict[int, int] = field(default_factory=dict)

    def to_json(self) -> bytes:
        offsets = {str(p): offset for p, offset in self.offsets.items()}
        return json.dumps({"number": self.number, "offsets": offsets}, indent=1).encode()

    @classmethod
    def from_json(cls, data: bytes) -> TreeStart:
        """Raises BatchError if it can't be parsed."""
        try:
            document = json.loads(data)
            return cls(document["number"], {int(p): int(offset) for p, offset in document["offsets"].items()})
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise BatchError(f"does not say where a tree begins: {error!r}") from error


@dataclass(frozen=True, slots=True)
class RawFile:
    """A visible file; `range` is all that it covers, `part` the part of it that lies in the batch."""

    path: str
    partition: int
    range: Range
    part: Range


def take(
    fs: Hdfs, layout: Layout, name: str, read_ends: Callable[[], dict[int, int]], moment: datetime | None = None
) -> Cut:
    """Ends a batch now; `read_ends` asks Kafka for partition -> end offset. If the name exists, returns its cut.

    With a past `moment` `read_ends` returns the end offsets of that time; offsets of earlier cuts stay where they are.
    Raises BatchError for an invalid name, and for end offsets below those of the last cut.
    """
    if not _NAME.match(name):
        raise BatchError(f"{name!r} can't name a cut: letters, digits, dot, underscore and hyphen can")
    while True:
        last = newest(fs, layout)
        if last is not None:
            _write_by_name(fs, layout, last)
        with suppress(FileNotFoundError):
            return Cut.from_json(fs.read(name_path(layout, name)))
        ends = read_ends()  # asked after the last cut was read: so ends never go back
        cut = _next(layout, name, last, ends) if moment is None else _past(layout, name, last, ends, moment)
        try:
            fs.write_atomically(link_path(layout, cut.number), cut.to_json())
        except FileExistsError:
            continue  # another cut came first: this one begins where that ends
        _write_by_name(fs, layout, cut)
        return cut


def _next(layout: Layout, name: str, last: Cut | None, ends: dict[int, int]) -> Cut:
    before = {} if last is None else last.ends
    wrong = [f"p={p}: {o} -> {ends.get(p)}" for p, o in sorted(before.items()) if ends.get(p, -1) < o]
    if wrong:
        raise BatchError(f"{layout.topic} ends before the last cut did: {', '.join(wrong)}; was it created anew?")
    return _follow(layout, name, last, ends, datetime.now(UTC))


def _past(layout: Layout, name: str, last: Cut | None, ends: dict[int, int], moment: datetime) -> Cut:
    if last is not None:
        ends = last.ends | {p: max(end, last.ends.get(p, 0)) for p, end in ends.items()}
        moment = max(moment, datetime.fromisoformat(last.taken_at))
    return _follow(layout, name, last, ends, moment)


def _follow(layout: Layout, name: str, last: Cut | None, ends: dict[int, int], moment: datetime) -> Cut:
    starts = {p: 0 if last is None else last.ends.get(p, 0) for p in ends}
    taken_at = moment.isoformat(timespec="milliseconds")
    return Cut(name, 1 if last is None else last.number + 1, layout.topic, taken_at, starts, ends)


def get(fs: Hdfs, layout: Layout, name: str) -> Cut:
    """The cut of that name. Raises BatchError if there is none."""
    if _NAME.match(name):
        with suppress(FileNotFoundError):
            return Cut.from_json(fs.read(name_path(layout, name)))
        last = newest(fs, layout)  # its process may have died before it wrote the file by name
        if last is not None and last.name == name:
            _write_by_name(fs, layout, last)
            return last
    raise BatchError(f"{layout.topic} has no cut {name!r}; `clickstream cut` takes one")


def newest(fs: Hdfs, layout: Layout, known: Cut | None = None) -> Cut | None:
    """The last cut, None before the first; with a `known` one only its successors are read."""
    if known is None:
        numbers = _numbers(fs, layout)
        return _read(fs, layout, numbers[-1]) if numbers else None
    while True:
        try:
            known = _read(fs, layout, known.number + 1)
        except FileNotFoundError:
            return known


def before(fs: Hdfs, layout: Layout, cut: Cut) -> Cut | None:
    """The cut before this one; None for the first."""
    return _read(fs, layout, cut.number - 1) if cut.number > 1 else None


def all_cuts(fs: Hdfs, layout: Layout, after: int = 0) -> Iterator[Cut]:
    """Every cut in order, from the one after number `after` on."""
    numbers = [number for number in _numbers(fs, layout) if number > after]
    with ThreadPoolExecutor(16) as pool:
        for at in range(0, len(numbers), _TOGETHER):
            yield from pool.map(lambda number: _read(fs, layout, number), numbers[at : at + _TOGETHER])


def since(fs: Hdfs, layout: Layout, moment: datetime) -> Iterator[Cut]:
    """The cuts taken at `moment` or later, in order; the first is found by bisection."""
    numbers = _numbers(fs, layout)

    def taken_at(number: int) -> datetime:
        return datetime.fromisoformat(_read(fs, layout, number).taken_at)

    at = bisect_left(numbers, moment, key=taken_at)
    return all_cuts(fs, layout, numbers[at] - 1) if at < len(numbers) else iter(())


def tree_start(fs: Hdfs, layout: Layout, tree: Tree = "raw") -> TreeStart:
    """The start of the tree: offset 0 of each partition, unless retention deleted batches. Raises BatchError."""
    path = tree_start_path(layout, tree)
    try:
        return TreeStart.from_json(fs.read(path))
    except FileNotFoundError:
        return TreeStart()
    except BatchError as error:
        raise BatchError(f"{path} {error}") from error


def tree_start_path(layout: Layout, tree: Tree) -> str:
    """Path of the file that says where the tree begins."""
    return f"{layout.retired}/{_START_FILES[tree]}"


def files(fs: Hdfs, layout: Layout, cut: Cut) -> list[RawFile]:
    """The visible files that hold offsets of the batch, by partition and offset, be the batch complete or not.

    Raises BatchError if retention has deleted the batch's files: without that it would look empty.
    """
    return [file for _, _, files in folders(fs, layout, cut) for file in files]


def folders(fs: Hdfs, layout: Layout, cut: Cut) -> Iterator[tuple[str, dict[str, Entry], list[RawFile]]]:
    """The folders of the batch's offsets: (path, entries by name, visible files that hold offsets of the batch)."""
    if cut.number <= tree_start(fs, layout).number:
        raise BatchError(f"the raw files of batch {cut.name} are gone: they were older than sink.raw_retention_days")
    for partition, end in sorted(cut.ends.items()):
        start = cut.starts[partition]
        for number in range(start // BUCKET, (end - 1) // BUCKET + 1 if end > start else start // BUCKET):
            folder = f"{layout.raw(partition)}/{bucket(number * BUCKET)}"
            entries = {}
            with suppress(FileNotFoundError):
                entries = {entry.name: entry for entry in fs.list(folder)}
            parts = [(file, file.intersect(start, end)) for file in visible(entries)]
            yield folder, entries, [RawFile(f"{folder}/{f.name}", partition, f, part) for f, part in parts if part]


def _numbers(fs: Hdfs, layout: Layout) -> list[int]:
    return [int(match[1]) for name in fs.names(f"{layout.cuts}/chain") if (match := _LINK.match(name))]


def _read(fs: Hdfs, layout: Layout, number: int) -> Cut:
    return Cut.from_json(fs.read(link_path(layout, number)))


def link_path(layout: Layout, number: int) -> str:
    """Path of the cut in the chain."""
    return f"{layout.cuts}/chain/{number:019d}.json"


def name_path(layout: Layout, name: str) -> str:
    """Path of the cut by its name."""
    return f"{layout.cuts}/{name}.json"


def _write_by_name(fs: Hdfs, layout: Layout, cut: Cut) -> None:
    """Writes the cut's file by name, unless it is there."""
    path = name_path(layout, cut.name)
    if not fs.exists(path):
        with suppress(FileExistsError):
            fs.write_atomically(path, cut.to_json())
