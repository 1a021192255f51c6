"""Audits one partition: its visible files in order, its quarantine, and what its epochs left behind."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from storage.audit.distinct_ids import DistinctIds
from storage.batches import cuts
from storage.batches.history import LandedFile
from storage.errors import StorageError
from storage.formats.file_info import FileInfo
from storage.formats.format import Row
from storage.formats.headers import read_info
from storage.formats.records import records
from storage.hdfs import Hdfs
from storage.layout import Layout, Range, bucket, parse, visible


@dataclass(frozen=True, slots=True)
class Finding:
    """A violation, with the files that show it."""

    kind: str
    text: str
    files: tuple[str, ...]

    def facts(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(slots=True)
class Totals:
    """Counts of what a partition's visible files cover: offsets first <= offset < end."""

    first: int = 0
    end: int = 0
    files: int = 0
    landed: int = 0
    quarantined: int = 0
    explained: int = 0
    lost: int = 0
    remainders: int = 0

    def facts(self) -> dict[str, int]:
        return asdict(self)


@dataclass
class PartitionAuditor:
    """Checks a partition's files in their order; violations go to `add`. With `ids` every record is read, too."""

    fs: Hdfs
    layout: Layout
    partition: int
    begin: int
    add: Callable[[Finding], None]
    ids: DistinctIds | None = None
    totals: Totals = field(default_factory=Totals)
    _last: str = ""
    _quarantine_files: tuple[str, list[Range]] = ("", [])
    _quarantine_begin: int = 0

    def __post_init__(self) -> None:
        self.totals.first = self.totals.end = self.begin
        self._unpublished = list(self._remainders())
        self.totals.remainders = len(self._unpublished)

    def check_names(self, folder: str, names: list[str]) -> None:
        """Checks that each name in a bucket is one of ours, or hidden by a leading underscore."""
        for name in names:
            file = parse(name)
            if name.startswith("_") and file is None:
                continue
            right = None
            if file is not None and file.first <= file.last and bucket(file.first) == bucket(file.last):
                right = self.layout.file(self.partition, file.first, file.last, name.rsplit(".", 1)[-1])
            if right != f"{folder.rsplit('/', 1)[-1]}/{name}":
                text = f"{name} is no name of a file of {self.layout.topic}, p={self.partition}, in this folder"
                self.add(Finding("name", text, (f"{folder}/{name}",)))

    def check(self, landed: LandedFile) -> bool:
        """Checks a file; False if its header has a violation."""
        path, file = landed.file.path, landed.file.range
        self._check_order(landed)
        self.totals.end, self._last = max(self.totals.end, file.last + 1), path
        self.totals.files += 1
        info = landed.info
        if isinstance(info, StorageError):
            self.add(Finding("header", info.reason, (path,)))
            return False
        wrong = contradictions(self.layout, self.partition, file, info)
        if wrong:
            self.add(Finding("header", "; ".join(wrong), (path,)))
            return False
        self._count(landed.file.part, info)
        if info.quarantined:
            self._check_quarantine(path, info)
        if any(reason == "lost" for _, _, reason in info.gaps):
            self._check_lost(path, info)
        if self.ids is not None:
            self._check_records(path, info, landed.file.part, self.ids)
        return True

    def _check_order(self, landed: LandedFile) -> None:
        end, first, path = self.totals.end, landed.file.part.first, landed.file.path
        if landed.overlaps:
            text = f"offsets {landed.file.range.first}..{end - 1} of p={self.partition} are in two visible files"
            self.add(Finding("overlap", text, (self._last, path)))
        elif first > end:
            inside = [name for name, file in self._unpublished if file.first < first and file.last >= end]
            text = f"offsets {end}..{first - 1} of p={self.partition} are in no visible file"
            if inside:
                text += "; some are in a file that was never published"
            self.add(Finding("hole", text, (*filter(None, [self._last]), path, *inside)))

    def _count(self, part: Range, info: FileInfo) -> None:
        quarantined = _within(part, info.quarantined)
        lost = _within(part, ((a, b) for a, b, reason in info.gaps if reason == "lost"))
        explained = _within(part, ((a, b) for a, b, reason in info.gaps if reason != "lost"))
        totals = self.totals
        totals.landed += len(part) - quarantined - lost - explained
        totals.quarantined += quarantined
        totals.lost += lost
        totals.explained += explained

    # Quarantine

    def _check_quarantine(self, path: str, info: FileInfo) -> None:
        """Checks that each quarantined offset is in a quarantine file whose range lies within this file's.

        Offsets that retention has taken are left out. Compaction does not merge quarantine files; one of a former owner
        may hold more than it should.
        """
        folder = f"{self.layout.quarantine(self.partition)}/{bucket(info.first)}"
        if self._quarantine_files[0] != folder:
            self._list_quarantine(folder)
        try:
            missing, paths = self._not_in_quarantine(folder, info)
        except StorageError as error:
            self.add(Finding("quarantine", error.reason, (error.path, path)))
            return
        if missing is not None:
            text = f"offset {missing} of p={self.partition} should be in quarantine, but no file there holds it"
            self.add(Finding("quarantine", text, (path, *paths)))

    def _list_quarantine(self, folder: str) -> None:
        """Lists the folder before it asks where quarantine begins: retention moves that before it deletes anything."""
        self._quarantine_files = folder, [file for name in self.fs.names(folder) if (file := parse(name))]
        self._quarantine_begin = cuts.tree_start(self.fs, self.layout, "quarantine").offsets.get(self.partition, 0)

    def _not_in_quarantine(self, folder: str, info: FileInfo) -> tuple[int | None, list[str]]:
        """The first offset that is missing there, None if none is; and the files that may hold it."""
        inside = [r for r in self._quarantine_files[1] if info.first <= r.first and r.last <= info.last]
        paths = [f"{folder}/{file.name}" for file in inside]
        spans = [(max(first, self._quarantine_begin), last) for first, last in info.quarantined]
        held = heapq.merge(*(self._offsets(p, r) for p, r in zip(paths, inside, strict=True)))
        try:
            return next(_not_held(spans, held), None), paths
        except FileNotFoundError:  # retention has deleted it since it was listed
            self._list_quarantine(folder)
            return self._not_in_quarantine(folder, info)

    def _offsets(self, path: str, file: Range) -> Iterator[int]:
        info, count, before = read_info(self.fs, path), 0, file.first - 1
        if (info.topic, info.partition, info.first, info.last) != (*self._place, file.first, file.last):
            raise StorageError(path, f"its header says {info.topic} p={info.partition}, {info.first}..{info.last}")
        for partition, offset, _, _ in records(self.fs, path):
            if partition != self.partition or not before < offset <= file.last:
                raise StorageError(path, f"a record of p={partition}, offset {offset}, after offset {before}")
            count, before = count + 1, offset
            yield offset
        if count != info.records:
            raise StorageError(path, f"{count} records, but its header says {info.records}")

    @property
    def _place(self) -> tuple[str, int]:
        return self.layout.topic, self.partition

    # Epochs

    def _remainders(self) -> Iterator[tuple[str, Range]]:
        """Raw files in the working folders of all epochs, the live one included."""
        root = self.layout.epochs(self.partition)
        for parent in (root, f"{root}/fenced"):
            if parent != root and not self.fs.count_files(parent):
                continue  # as it is without crashes; there is a folder for each owner that ever was
            for epoch in self.fs.names(parent):
                if epoch.startswith("e="):
                    for token in self.fs.names(f"{parent}/{epoch}"):
                        folder = f"{parent}/{epoch}/{token}"
                        for name in self.fs.names(folder):
                            file = None if name.startswith("q+") else parse(name)
                            if file is not None:
                                yield f"{folder}/{name}", file

    def _check_lost(self, path: str, info: FileInfo) -> None:
        """Checks that no offset that is visible as lost is in a file that an owner finished but did not publish."""
        spans = [(a, b) for a, b, reason in info.gaps if reason == "lost"]
        for name, file in self._unpublished:
            if not _within(file, spans):
                continue
            try:
                held = [o for _, o, _, _ in records(self.fs, name) if any(a <= o <= b for a, b in spans)][:1]
            except (StorageError, FileNotFoundError):
                continue  # not complete: its owner died while it wrote
            if held:
                text = f"offset {held[0]} of p={self.partition} is said to be lost, but a file that was never"
                self.add(Finding("unpublished", f"{text} published holds it", (path, name)))

    # Records

    def _check_records(self, path: str, info: FileInfo, part: Range, ids: DistinctIds) -> None:
        """Checks that the records decode, and are those that the header states, in order, and no others."""
        expected_offsets = expected(info)
        offset, before = next(expected_offsets, None), None
        try:
            for partition, found, _, event in self._records(path, info):
                if (partition, found) != (self.partition, offset):
                    text = f"after offset {before}: a record of p={partition}, offset {found} instead of {offset}"
                    if before is not None:
                        text += f"; unless they are out of order, the body at offset {before} is garbage"
                    self.add(Finding("record", text, (path,)))
                    return
                if isinstance(event, dict) and found >= part.first:
                    ids.add(str(event.get("event_id")))
                offset, before = next(expected_offsets, None), found
        except StorageError as error:
            where = f"offset {offset}" if offset is not None else f"offset {before}, the last"
            self.add(Finding("record", f"at {where}: {error.reason}", (path,)))
            return
        if offset is not None:
            self.add(Finding("record", f"it ends before offset {offset}, which its header promises", (path,)))

    def _records(self, path: str, info: FileInfo) -> Iterator[Row]:
        """The file's records, from the larger file if compaction has just replaced it."""
        rows = records(self.fs, path)
        try:
            row = next(rows, None)
        except FileNotFoundError:
            folder = path.rsplit("/", 1)[0]
            larger = [f for f in visible(self.fs.names(folder)) if f.first <= info.first and info.last <= f.last]
            if not larger:
                raise StorageError(path, "it was deleted while it was audited, and nothing is in its place") from None
            every = records(self.fs, f"{folder}/{larger[0].name}")
            yield from (row for row in every if info.first <= row[1] <= info.last)
            return
        if row is not None:
            yield row
            yield from rows


def contradictions(layout: Layout, partition: int, file: Range, info: FileInfo) -> list[str]:
    """Contradictions of a header with the file's name, or within itself."""
    wrong = []
    said = (info.topic, info.partition, info.first, info.last)
    if said != (layout.topic, partition, file.first, file.last):
        wrong.append(f"its header says {info.topic} p={info.partition}, {info.first}..{info.last}")
    spans = sorted([*info.quarantined, *((a, b) for a, b, _ in info.gaps)])
    before = info.first - 1
    for first, last in spans:
        if not before < first <= last <= info.last:
            wrong.append(f"its header's spans overlap or leave the range at {first}..{last}")
        before = last
    elsewhere = sum(b - a + 1 for a, b in spans)
    if info.records + elsewhere != info.last - info.first + 1:
        wrong.append(f"{info.records} records and {elsewhere} others do not account for {info.first}..{info.last}")
    return wrong


def expected(info: FileInfo) -> Iterator[int]:
    """The offsets of a file's records according to its header."""
    at = info.first
    for first, last in sorted([*info.quarantined, *((a, b) for a, b, _ in info.gaps)]):
        yield from range(at, first)
        at = last + 1
    yield from range(at, info.last + 1)


def _not_held(spans: Iterable[tuple[int, int]], held: Iterator[int]) -> Iterator[int]:
    """Offsets of the spans that are not in `held`, which ascends and may repeat offsets."""
    at = next(held, None)
    for first, last in sorted(spans):
        for offset in range(first, last + 1):
            while at is not None and at < offset:
                at = next(held, None)
            if at != offset:
                yield offset


def _within(part: Range, spans: Iterable[tuple[int, int]]) -> int:
    return sum(max(0, min(part.last, b) - max(part.first, a) + 1) for a, b in spans)
