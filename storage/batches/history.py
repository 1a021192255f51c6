"""Walks all landed files of a topic in order, as a stream, and writes the ledgers of all batches from them.

Headers are read in parallel, but of each partition only one bucket's names and some headers are in memory. If files are
compacted away during a walk of hours, their bucket is listed again, and the file that took their place is used for the
offsets that were not reached yet.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from storage.batches import cuts, ledger
from storage.batches.cuts import Cut, RawFile, TreeStart
from storage.batches.header_cache import HeaderCache, HeaderReader, ReadHeader
from storage.batches.ledger import BatchLedger, PartitionLedger
from storage.errors import StorageError
from storage.formats.file_info import FileInfo
from storage.hdfs import Hdfs
from storage.landed import partitions
from storage.layout import BUCKET, Layout, Range, bucket, visible

READERS = 8  # threads; more are no faster
_WRITERS = 64  # threads: HDFS takes some tenths of a second to close a small file
_AHEAD = 64  # headers that are read in advance, in each partition
OnListing = Callable[[str, list[str]], None]  # (a bucket's folder, names in it)


@dataclass(frozen=True, slots=True)
class LandedFile:
    """A visible file. `file.part` is the part of its range that no file before it covers.

    `overlaps`: that is not all of it, and not because a larger file has just replaced smaller ones. `info` is the error
    if the header can't be read.
    """

    file: RawFile
    info: FileInfo | StorageError
    overlaps: bool = False


def walk(
    fs: Hdfs,
    layout: Layout,
    partition: int,
    pool: ThreadPoolExecutor,
    reader: HeaderReader,
    begin: int = 0,
    on_listing: OnListing = lambda folder, names: None,
) -> Iterator[LandedFile]:
    """The visible files of a partition that hold offsets from `begin` on, by offset; each bucket's first listing goes
    to `on_listing`."""
    reached = begin
    root = layout.raw(partition)
    buckets = [name for name in fs.names(root) if name >= bucket(begin)]
    for name in buckets:
        folder, again = f"{root}/{name}", False
        while True:
            entries = {entry.name: entry for entry in fs.list(folder)}
            if not again:
                on_listing(folder, [*entries])
            start, replaced, vanished = reached, again, False
            with reader(folder, entries) as read:
                for file, head in _heads(pool, read, folder, visible(entries), reached):
                    path = f"{folder}/{file.name}"
                    info = _resolve(fs, path, head)
                    if info is None:
                        vanished = True
                        break
                    overlaps = begin < reached and file.first < reached and not replaced
                    part = file if overlaps else Range(max(file.first, reached), file.last, file.name)
                    yield LandedFile(RawFile(path, partition, file, part), info, overlaps)
                    reached, replaced = file.last + 1, False
            # A bucket is full before the next one begins; if it is not, files were published since it was listed.
            filled = name == buckets[-1] or reached % BUCKET == 0 or (again and reached == start)
            if filled and not vanished:
                break
            again = True


def _resolve(fs: Hdfs, path: str, head: Future[FileInfo]) -> FileInfo | StorageError | None:
    """The header or its error; None if the file is gone."""
    try:
        return head.result()
    except StorageError as error:
        return error
    except FileNotFoundError as error:
        return StorageError(path, str(error)) if fs.exists(path) else None


def _heads(
    pool: ThreadPoolExecutor, read: ReadHeader, folder: str, files: list[Range], reached: int
) -> Iterator[tuple[Range, Future[FileInfo]]]:
    waiting: deque[tuple[Range, Future[FileInfo]]] = deque()
    for file in files:
        if file.last >= reached:
            waiting.append((file, pool.submit(read, f"{folder}/{file.name}")))
            if len(waiting) > _AHEAD:
                yield waiting.popleft()
    yield from waiting


class BatchSplitter:
    """Splits the files of all partitions into batches: `take` for each cut in order, then `drain` the files after the
    last cut."""

    def __init__(self, walks: dict[int, Iterator[LandedFile]]) -> None:
        self._walks = walks
        self._current = {partition: next(walk, None) for partition, walk in walks.items()}

    def take(self, cut: Cut) -> BatchLedger:
        """The ledger of the batch, with its landing terms. Raises StorageError if a header can't be read."""
        rows = (self._row(PartitionLedger(p, cut.starts[p], end)) for p, end in sorted(cut.ends.items()))
        return BatchLedger(cut.name, cut.number, cut.topic, tuple(rows))

    def drain(self) -> None:
        """Reads the files after the last cut."""
        for partition, walk in self._walks.items():
            self._current[partition] = None
            for _ in walk:
                pass

    def _row(self, row: PartitionLedger) -> PartitionLedger:
        found = []
        while (landed := self._current.get(row.partition)) is not None and landed.file.range.first < row.end:
            part = landed.file.part.intersect(row.start, row.end)
            if part is not None:
                if isinstance(landed.info, StorageError):
                    raise landed.info
                found.append((RawFile(landed.file.path, row.partition, landed.file.range, part), landed.info))
            if landed.file.range.last >= row.end:
                break
            self._current[row.partition] = next(self._walks[row.partition], None)
        return ledger.tally(row, found)


def refresh_all(fs: Hdfs, layout: Layout) -> list[BatchLedger]:
    """Refreshes the ledgers of all batches; walks files once, from the first batch that is not complete."""
    every = list(cuts.all_cuts(fs, layout))
    with ThreadPoolExecutor(_WRITERS) as pool:
        found = list(pool.map(lambda cut: ledger.load_or_none(fs, layout, cut.name), every))
        new = [n for n, one in enumerate(found) if one is None or not one.landed_complete]
        if new:
            starts, cache = every[new[0]].starts, HeaderCache(fs, layout, pool)
            numbers = partitions(fs, layout.topic_root)
            splitter = BatchSplitter({p: walk(fs, layout, p, pool, cache, starts.get(p, 0)) for p in numbers})
            counted = {n: splitter.take(every[n]) for n in range(new[0], len(every))}
            now = [ledger.with_counts(counted[n], ledger.load_counts(fs, layout, every[n].name)) for n in new]
            list(pool.map(lambda one: ledger.record_landing(fs, layout, one), now))
            for n, one in zip(new, now, strict=True):
                found[n] = one
    return [one for one in found if one is not None]


@dataclass(slots=True)
class Rebuilt:
    """Numbers of batches by what a rebuild did with them, and the names of those that have not landed completely."""

    batches: int = 0
    retired: int = 0
    written: int = 0
    same: int = 0
    incomplete: list[str] = field(default_factory=list)

    def facts(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


def rebuild(fs: Hdfs, layout: Layout, progress: Callable[[], None] = lambda: None, fresh: bool = False) -> Rebuilt:
    """Writes the ledgers of all batches from scratch; leaves those alone that are right already.

    Landing terms come from the files, publish terms from what curation recorded, and for batches whose raw files are
    gone the ledger that retention kept is used. Headers are cached, unless `fresh`. A batch that has not landed gets
    a ledger only if it has one already, or was curated.
    """
    done = Rebuilt()
    tree_start = cuts.tree_start(fs, layout)
    with ThreadPoolExecutor(READERS) as readers, ThreadPoolExecutor(_WRITERS) as writers:
        numbers, cache = partitions(fs, layout.topic_root), HeaderCache(fs, layout, readers, fresh)
        walks = {p: walk(fs, layout, p, readers, cache, tree_start.offsets.get(p, 0)) for p in numbers}
        waiting: deque[Future[bool]] = deque()
        for counted in _counted(fs, layout, tree_start, BatchSplitter(walks), done):
            waiting.append(writers.submit(_write_if_changed, fs, layout, counted))
            while len(waiting) > 2 * _WRITERS or (waiting and waiting[0].done()):
                _note(done, waiting.popleft().result(), progress)
        for future in waiting:
            _note(done, future.result(), progress)
    return done


def _counted(
    fs: Hdfs, layout: Layout, tree_start: TreeStart, splitter: BatchSplitter, done: Rebuilt
) -> Iterator[BatchLedger]:
    for cut in cuts.all_cuts(fs, layout):
        done.batches += 1
        if cut.number <= tree_start.number:
            done.retired += 1
            yield BatchLedger.from_json(fs.read(f"{layout.retired}/{cut.name}.json"))
            continue
        counted = splitter.take(cut)
        if not counted.landed_complete:
            done.incomplete.append(cut.name)
        yield counted


def _write_if_changed(fs: Hdfs, layout: Layout, counted: BatchLedger) -> bool:
    """Whether the ledger was written."""
    counts = ledger.load_counts(fs, layout, counted.name)
    counted = ledger.with_counts(counted, counts)
    stored = b""
    with suppress(FileNotFoundError):
        stored = fs.read(ledger.path(layout, counted.name))
    if stored == counted.to_json() or not (stored or counts or counted.landed_complete):
        return False
    ledger.write(fs, layout, counted)
    return True


def _note(done: Rebuilt, written: bool, progress: Callable[[], None]) -> None:
    done.written += written
    done.same += not written
    progress()


def correct_file_counts(fs: Hdfs, layout: Layout, cuts: Iterable[Cut], files: dict[int, list[Range]]) -> int:
    """Corrects the number of files in the ledgers, which compaction changes; returns how many were wrong.

    `files` are the visible files of each partition, by offset.
    """
    firsts = {p: [file.first for file in found] for p, found in files.items()}
    lasts = {p: [file.last for file in found] for p, found in files.items()}

    def of(row: PartitionLedger) -> int:
        until = bisect_right(firsts.get(row.partition, []), row.end - 1)
        return until - bisect_left(lasts.get(row.partition, []), row.start) if row.offsets else 0

    def correct(cut: Cut) -> bool:
        old = ledger.load_or_none(fs, layout, cut.name)
        if old is None or not old.landed_complete:
            return False
        new = replace(old, partitions=tuple(replace(row, files=of(row)) for row in old.partitions))
        if new != old:
            ledger.write(fs, layout, new)
        return new != old

    with ThreadPoolExecutor(_WRITERS) as pool:
        return sum(pool.map(correct, cuts))
