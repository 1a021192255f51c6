"""All that was ever landed of a topic, in order and as a stream; and the ledgers that can be written anew from it.

Many headers are read side by side, but of each partition only one bucket's names and some files' headers are in memory.
Files may be compacted away under a reader that takes hours: then the bucket is listed again, and the file that took
their place answers for what has not been seen yet.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from storage import batches, ledger
from storage.batches import Begins, Cut, RawFile
from storage.containers import FileInfo
from storage.errors import StorageError
from storage.hdfs import Hdfs
from storage.headers import Memory, Read, Reader
from storage.layout import BUCKET, Layout, Range, bucket, visible
from storage.ledger import BatchLedger, PartitionLedger

READERS = 8  # threads; more of them are no faster
_WRITERS = 64  # closing a small file takes HDFS some tenths of a second, in which nobody works
_AHEAD = 64  # headers asked for in advance, of each partition
_PARTITION = re.compile(r"^p=(\d+)$")
Look = Callable[[str, list[str]], None]  # (folder, names in it)


@dataclass(frozen=True, slots=True)
class Landed:
    """A visible file. `file.part` is what of its range no file before it answers for; `overlaps` when that is not all,
    and not because a larger file has just taken the place of smaller ones. `info` is an error when the header has one.
    """

    file: RawFile
    info: FileInfo | StorageError
    overlaps: bool = False


def partitions(fs: Hdfs, root: str) -> list[int]:
    """The partitions below the folder that holds them."""
    return sorted(int(match[1]) for name in fs.names(root) if (match := _PARTITION.match(name)))


def nothing(folder: str, names: list[str]) -> None:
    """Looks at no listing."""


def walk(
    fs: Hdfs,
    layout: Layout,
    partition: int,
    pool: ThreadPoolExecutor,
    reader: Reader,
    begin: int = 0,
    look: Look = nothing,
) -> Iterator[Landed]:
    """The visible files of a partition that reach over `begin`, by offset; `look` sees each listing."""
    reached = begin
    root = layout.raw(partition)
    buckets = [name for name in fs.names(root) if name >= bucket(begin)]
    for name in buckets:
        folder, again = f"{root}/{name}", False
        while True:
            entries = {entry.name: entry for entry in fs.list(folder)}
            if not again:
                look(folder, [*entries])
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
                    yield Landed(RawFile(path, partition, file, part), info, overlaps)
                    reached, replaced = file.last + 1, False
            # A bucket is filled to its border before the next one begins: if not, something was published meanwhile.
            filled = name == buckets[-1] or reached % BUCKET == 0 or (again and reached == start)
            if filled and not vanished:
                break
            again = True


def _resolve(fs: Hdfs, path: str, head: Future[FileInfo]) -> FileInfo | StorageError | None:
    """None when the file is gone."""
    try:
        return head.result()
    except StorageError as error:
        return error
    except FileNotFoundError as error:
        return StorageError(path, str(error)) if fs.exists(path) else None


def _heads(
    pool: ThreadPoolExecutor, read: Read, folder: str, files: list[Range], reached: int
) -> Iterator[tuple[Range, Future[FileInfo]]]:
    waiting: deque[tuple[Range, Future[FileInfo]]] = deque()
    for file in files:
        if file.last >= reached:
            waiting.append((file, pool.submit(read, f"{folder}/{file.name}")))
            if len(waiting) > _AHEAD:
                yield waiting.popleft()
    yield from waiting


class Sweep:
    """Cuts the files of all partitions, in order, into batches. `rest` reads what comes after the last cut."""

    def __init__(self, walks: dict[int, Iterator[Landed]]) -> None:
        self._walks = walks
        self._current = {partition: next(walk, None) for partition, walk in walks.items()}

    def take(self, cut: Cut) -> BatchLedger:
        """The landing terms of the batch; cuts come in their order. Raises StorageError for a header that is none."""
        rows = (self._row(PartitionLedger(p, cut.starts[p], end)) for p, end in sorted(cut.ends.items()))
        return BatchLedger(cut.name, cut.number, cut.topic, tuple(rows))

    def rest(self) -> None:
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


def look_at_all(fs: Hdfs, layout: Layout) -> list[BatchLedger]:
    """What `ledger.look` gives of each batch, but files are gone through once, and none that was counted before."""
    cuts = list(batches.all(fs, layout))
    with ThreadPoolExecutor(_WRITERS) as pool:
        found = list(pool.map(lambda cut: ledger.recorded(fs, layout, cut.name), cuts))
        new = [n for n, one in enumerate(found) if one is None or not one.landed_complete]
        if new:
            starts, memory = cuts[new[0]].starts, Memory(fs, layout, pool)
            numbers = partitions(fs, layout.topic_root)
            sweep = Sweep({p: walk(fs, layout, p, pool, memory, starts.get(p, 0)) for p in numbers})
            counted = {n: sweep.take(cuts[n]) for n in range(new[0], len(cuts))}
            now = [ledger.with_published(counted[n], ledger.published(fs, layout, cuts[n].name)) for n in new]
            list(pool.map(lambda one: ledger.record_landing(fs, layout, one), now))
            for n, one in zip(new, now, strict=True):
                found[n] = one
    return [one for one in found if one is not None]


@dataclass(slots=True)
class Rebuilt:
    """What a rebuild did: names of batches that have not landed completely, numbers of the others."""

    batches: int = 0
    retired: int = 0
    written: int = 0
    same: int = 0
    incomplete: list[str] = field(default_factory=list)

    def facts(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


def rebuild(fs: Hdfs, layout: Layout, progress: Callable[[], None] = lambda: None, fresh: bool = False) -> Rebuilt:
    """Writes the ledgers of all batches from scratch: landing terms from the files, publish terms as curation kept
    them, and of batches whose raw is gone the ledger that retention kept. A ledger that says the same is left alone.
    What headers said is believed as an audit believes it, unless `fresh`.

    A batch that has not landed yet gets none, unless it has one or was curated: then what that says is made true.
    """
    done = Rebuilt()
    begins = batches.begins(fs, layout)
    with ThreadPoolExecutor(READERS) as readers, ThreadPoolExecutor(_WRITERS) as writers:
        numbers, memory = partitions(fs, layout.topic_root), Memory(fs, layout, readers, fresh)
        walks = {p: walk(fs, layout, p, readers, memory, begins.offsets.get(p, 0)) for p in numbers}
        waiting: deque[Future[bool]] = deque()
        for counted in _counted(fs, layout, begins, Sweep(walks), done):
            waiting.append(writers.submit(_settle, fs, layout, counted))
            while len(waiting) > 2 * _WRITERS or (waiting and waiting[0].done()):
                _note(done, waiting.popleft().result(), progress)
        for future in waiting:
            _note(done, future.result(), progress)
    return done


def _counted(fs: Hdfs, layout: Layout, begins: Begins, sweep: Sweep, done: Rebuilt) -> Iterator[BatchLedger]:
    for cut in batches.all(fs, layout):
        done.batches += 1
        if cut.number <= begins.number:
            done.retired += 1
            yield BatchLedger.from_json(fs.read(f"{layout.retired}/{cut.name}.json"))
            continue
        counted = sweep.take(cut)
        if not counted.landed_complete:
            done.incomplete.append(cut.name)
        yield counted


def _settle(fs: Hdfs, layout: Layout, counted: BatchLedger) -> bool:
    """Whether anything had to be written."""
    counts = ledger.published(fs, layout, counted.name)
    counted = ledger.with_published(counted, counts)
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


def refresh_files(fs: Hdfs, layout: Layout, cuts: Iterable[Cut], files: dict[int, list[Range]]) -> int:
    """After compaction: makes the recorded number of files true, and changes no other term; how many were not.

    `files` are the visible files of each partition, by offset.
    """
    firsts = {p: [file.first for file in found] for p, found in files.items()}
    lasts = {p: [file.last for file in found] for p, found in files.items()}

    def of(row: PartitionLedger) -> int:
        until = bisect_right(firsts.get(row.partition, []), row.end - 1)
        return until - bisect_left(lasts.get(row.partition, []), row.start) if row.offsets else 0

    def refresh(cut: Cut) -> bool:
        old = ledger.recorded(fs, layout, cut.name)
        if old is None or not old.landed_complete:
            return False
        new = replace(old, partitions=tuple(replace(row, files=of(row)) for row in old.partitions))
        if new != old:
            ledger.write(fs, layout, new)
        return new != old

    with ThreadPoolExecutor(_WRITERS) as pool:
        return sum(pool.map(refresh, cuts))
