"""Compaction: merges small landed files of closed batches. Readers see each record exactly once at every moment.

Neighbouring files are written as one file under a temporary name, which is read back and renamed to the name of the
whole range; that hides its parts (`layout.visible`). No lock is needed: the rename is exclusive, so of two compactions
one loses and deletes its own file, and the sink never writes below a cut that has landed.

The parts are deleted after a grace period, counted from the larger file's modification time, for readers that listed
them before; and only if the larger file is visible and its header agrees with theirs. Their quarantine files stay: a
quarantine file belongs to the visible file whose range contains its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any

from infra.settings.jobs import Compaction
from storage.batches import cuts, ledger
from storage.batches.cuts import Cut
from storage.batches.history import correct_file_counts
from storage.errors import ContainerError, StorageError
from storage.formats import FORMATS
from storage.formats.file_info import says_the_same
from storage.formats.format import Codec, Part
from storage.formats.headers import read_info
from storage.hdfs import Entry, Hdfs
from storage.landed import partitions, position
from storage.layout import Layout, Range, is_temporary, parse, visible
from storage.rewrite import rewrite

_THREADS = 2  # HDFS does most of the work; each thread holds one part in memory, and the footers of a group
_REQUESTS = 16  # threads that wait for the NameNode
_UNFINISHED_SECONDS = 3600.0  # age at which a temporary file is deleted: its writer has died


@dataclass(frozen=True, slots=True)
class Group:
    """Neighbouring files of one bucket that are to become one file."""

    folder: str
    partition: int
    files: tuple[Range, ...]
    sizes: tuple[int, ...]  # of the files, in bytes
    parts: tuple[Part, ...] = ()  # the same files, as far as their format has read them

    @property
    def paths(self) -> list[str]:
        return [f"{self.folder}/{file.name}" for file in self.files]

    @property
    def bytes(self) -> int:
        return sum(self.sizes)

    @property
    def suffix(self) -> str:
        return self.files[0].name.rsplit(".", 1)[-1]

    def name(self, layout: Layout) -> str:
        """Path of the larger file."""
        return f"{layout.raw(self.partition)}/" + layout.file(
            self.partition, self.files[0].first, self.files[-1].last, self.suffix
        )


@dataclass(frozen=True, slots=True)
class GroupResult:
    """Result for a group of `files` files. `written`: False if another compaction wrote it, None if nothing was."""

    name: str
    files: int
    bytes: int
    written: bool | None = None
    failed: str = ""


@dataclass(slots=True)
class Compacted:
    """Counts of one run. `kept`: hidden files with which the larger file does not agree. `failed`: file -> reason."""

    groups: int = 0
    files_before: int = 0
    bytes_before: int = 0
    written: int = 0
    lost_races: int = 0
    deleted: int = 0
    ledgers: int = 0
    kept: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)

    def add(self, result: GroupResult) -> None:
        """Counts a group."""
        self.groups += 1
        self.files_before += result.files
        self.bytes_before += result.bytes
        if result.failed:
            self.failed[result.name] = result.failed
        elif result.written is not None:
            self.written += result.written
            self.lost_races += not result.written

    def facts(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


def compact(
    fs: Hdfs,
    layout: Layout,
    settings: Compaction,
    codec: Codec,
    now: Callable[[], float],
    dry_run: bool = False,
    batched: bool = True,
) -> Compacted:
    """Compacts all closed batches, or all landed files of a topic that is not `batched`.

    `now` in seconds since 1970. A `dry_run` only counts.
    """
    done = Compacted()
    if batched:
        cut = closed(fs, layout)
        ends = cut.ends if cut is not None else {}
    else:
        ends = {p: position(fs, layout, p) for p in partitions(fs, layout.topic_root)}
    if not ends:
        return done
    tree_start = cuts.tree_start(fs, layout)
    for partition, end in sorted(ends.items()):
        folders = [f"{layout.raw(partition)}/{name}" for name in fs.names(layout.raw(partition))]
        span = tree_start.offsets.get(partition, 0), end
        planned = [group for folder in folders for group in plan(fs.list(folder), partition, folder, span, settings)]
        with ThreadPoolExecutor(_THREADS) as pool:
            for results in pool.map(lambda wide: _join(fs, layout, wide, codec, dry_run), planned):
                for result in results:
                    done.add(result)
    if not dry_run:
        tidy(fs, layout, settings.grace_seconds, now(), done)
    return done


def closed(fs: Hdfs, layout: Layout) -> Cut | None:
    """The newest cut whose batch has landed completely; None if there is none."""
    cut = cuts.newest(fs, layout)
    first = cuts.tree_start(fs, layout).number
    while cut is not None and cut.number > first:
        if ledger.current(fs, layout, cut).landed_complete:
            return cut
        cut = cuts.before(fs, layout, cut)
    return None


def plan(
    entries: list[Entry], partition: int, folder: str, span: tuple[int, int], settings: Compaction
) -> Iterator[Group]:
    """Runs of small visible neighbours of one format in a bucket, whose offsets all lie in begin <= offset < end."""
    begin, end = span
    sizes = {entry.name: entry.size for entry in entries}
    run: list[Range] = []
    size = 0
    for file in [*visible(sizes), None]:
        fits = file is not None and begin <= file.first and file.last < end and sizes[file.name] < settings.small_bytes
        follows = file is not None and bool(run) and file.first == run[-1].last + 1
        same = file is not None and bool(run) and file.name.rsplit(".", 1)[-1] == run[-1].name.rsplit(".", 1)[-1]
        if run and not (fits and follows and same and size < settings.target_bytes):
            if len(run) >= settings.min_files or (len(run) > 1 and size >= settings.target_bytes):
                yield Group(folder, partition, tuple(run), tuple(sizes[part.name] for part in run))
            run, size = [], 0
        if fits and file is not None:
            run.append(file)
            size += sizes[file.name]


def _join(fs: Hdfs, layout: Layout, wide: Group, codec: Codec, dry_run: bool) -> list[GroupResult]:
    """Merges a group, in several files if its columns differ; what fails does not stop the others."""
    results = []
    for group in _alike(fs, wide):
        result = GroupResult(group.name(layout), len(group.files), group.bytes)
        if not dry_run:
            try:
                result = replace(result, written=write(fs, layout, group, codec))
            except FileNotFoundError as error:
                result = replace(result, failed=f"gone meanwhile: {error}")
            except (ContainerError, StorageError) as error:
                result = replace(result, failed=str(error))
        results.append(result)
    return results


def _alike(fs: Hdfs, group: Group) -> Iterator[Group]:
    """Splits the group into runs of files with equal columns, which its format needs or not.

    A group with a file that can't be read is returned whole: its merge then fails with the reason.
    """
    try:
        parts = _parts(fs, group)
    except (FileNotFoundError, ContainerError, StorageError):
        yield group
        return
    rows = zip(group.files, group.sizes, parts, strict=True)
    for _, run in groupby(rows, lambda row: row[2].columns):
        files, sizes, alike = zip(*run, strict=True)
        if len(files) > 1:
            yield replace(group, files=files, sizes=sizes, parts=alike)


def _parts(fs: Hdfs, group: Group) -> tuple[Part, ...]:
    read = FORMATS[group.suffix].part
    return tuple(read(fs, path) for path in group.paths)


def write(fs: Hdfs, layout: Layout, group: Group, codec: Codec) -> bool:
    """Merges and publishes one group; False if another compaction did. Raises StorageError if a part is damaged."""
    final = group.name(layout)

    def merged(unfinished: str) -> None:
        parts = group.parts or _parts(fs, group)
        written = FORMATS[group.suffix].merge(fs, parts, unfinished, codec)
        if (written.first, written.last) != (group.files[0].first, group.files[-1].last):
            raise StorageError(final, f"its parts say {written.first}..{written.last}")

    try:
        rewrite(fs, final, merged)
    except FileExistsError:
        return False
    return True


def tidy(fs: Hdfs, layout: Layout, grace: float, now: float, done: Compacted) -> None:
    """Corrects the number of files in the ledgers, then deletes files that were hidden or unfinished long enough."""
    files: dict[int, list[Range]] = {}
    folders: list[tuple[int, str]] = []
    for partition in partitions(fs, layout.topic_root):
        files[partition] = []
        for name in fs.names(layout.raw(partition)):
            folder = f"{layout.raw(partition)}/{name}"
            names = fs.names(folder)
            seen = visible(names)
            files[partition] += seen
            if len(seen) < len(names):
                folders.append((partition, folder))
    if not folders:
        return
    tree_start = cuts.tree_start(fs, layout)
    done.ledgers = correct_file_counts(fs, layout, cuts.all_cuts(fs, layout, tree_start.number), files)
    for _, folder in folders:
        _tidy_folder(fs, folder, grace, now, done)


def _tidy_folder(fs: Hdfs, folder: str, grace: float, now: float, done: Compacted) -> None:
    entries = fs.list(folder)
    old = {entry.name for entry in entries if entry.modified / 1000 + grace <= now}
    for entry in entries:
        if is_temporary(entry.name) and entry.modified / 1000 + max(grace, _UNFINISHED_SECONDS) <= now:
            done.deleted += fs.delete(entry.path)
    every = [file for entry in entries if (file := parse(entry.name)) is not None]
    for larger in visible(entry.name for entry in entries):
        inside = [f for f in every if f.name != larger.name and larger.first <= f.first and f.last <= larger.last]
        if not inside or larger.name not in old:
            continue
        _delete_parts(fs, folder, larger, inside, done)


def _delete_parts(fs: Hdfs, folder: str, larger: Range, parts: list[Range], done: Compacted) -> None:
    """Deletes the parts with which the larger file agrees, if that is still the visible one."""
    info = read_info(fs, f"{folder}/{larger.name}")

    def agrees(part: Range) -> bool | None:
        try:
            return says_the_same(info, read_info(fs, f"{folder}/{part.name}"))
        except FileNotFoundError:
            return None  # another compaction has deleted it

    def delete(part: Range) -> bool:
        try:
            return fs.delete(f"{folder}/{part.name}")
        except FileNotFoundError:
            return False

    with ThreadPoolExecutor(_REQUESTS) as pool:
        verdicts = list(zip(parts, pool.map(agrees, parts), strict=True))
        done.kept += [f"{folder}/{part.name}" for part, verdict in verdicts if verdict is False]
        if larger.name in {file.name for file in visible(fs.names(folder))}:
            done.deleted += sum(pool.map(delete, [part for part, verdict in verdicts if verdict]))
