"""Small landed files of closed batches become larger ones: the same records, at no moment seen twice or not at all.

A run of neighbours is written as one file under a temporary name, read back, and renamed to the name of the whole
range, which hides its parts (`layout.visible`). Nobody is asked for permission: the rename is exclusive, so of two
compactions one loses and deletes its own file; the sink never writes below a cut that has landed.

The parts go after a grace period, counted from the larger file's modification time, for the sake of readers that
listed them before; and only while the larger one is visible and its header says of their offsets what theirs say.
Their sisters under quarantine/ stay as they are: whose range lies within a visible file's belongs to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import groupby
from operator import itemgetter
from typing import Any

from infra.rules import Compaction
from storage import batches, ledger, merge
from storage.batches import Cut
from storage.containers import Codec, FileInfo
from storage.epochs import position
from storage.errors import ContainerError, StorageError
from storage.hdfs import Entry, Hdfs
from storage.headers import file_info
from storage.history import partitions, refresh_files
from storage.layout import Layout, Range, is_temporary, parse, visible
from storage.rewrite import rewrite

_THREADS = 2  # the work is HDFS's; each holds one part in memory, and the footers of a group
_QUESTIONS = 16  # threads that wait for HDFS's answers
_UNFINISHED_SECONDS = 3600.0  # after which a temporary file is taken for one whose writer died


@dataclass(frozen=True, slots=True)
class Group:
    """Neighbours within a bucket, to become one file."""

    folder: str
    partition: int
    parts: tuple[Range, ...]
    sizes: tuple[int, ...]  # of the parts, in bytes
    footers: tuple[bytes, ...] = ()  # of the parts, if they have any and it was read

    @property
    def paths(self) -> list[str]:
        return [f"{self.folder}/{part.name}" for part in self.parts]

    @property
    def bytes(self) -> int:
        return sum(self.sizes)

    @property
    def suffix(self) -> str:
        return self.parts[0].name.rsplit(".", 1)[-1]

    def name(self, layout: Layout) -> str:
        """The path of the larger file."""
        return f"{layout.raw(self.partition)}/" + layout.file(
            self.partition, self.parts[0].first, self.parts[-1].last, self.suffix
        )


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a group of so many files: `written`, False if somebody else did, None if nobody tried or could."""

    name: str
    files: int
    bytes: int
    written: bool | None = None
    failed: str = ""


@dataclass(slots=True)
class Compacted:
    """What a run did. `kept` are hidden files that their larger one does not agree with; `failed` file -> reason."""

    groups: int = 0
    files_before: int = 0
    bytes_before: int = 0
    written: int = 0
    lost_races: int = 0
    deleted: int = 0
    ledgers: int = 0
    kept: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)

    def add(self, outcome: Outcome) -> None:
        """Counts what became of a group."""
        self.groups += 1
        self.files_before += outcome.files
        self.bytes_before += outcome.bytes
        if outcome.failed:
            self.failed[outcome.name] = outcome.failed
        elif outcome.written is not None:
            self.written += outcome.written
            self.lost_races += not outcome.written

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
    """One run over all closed batches, or, of a topic that is not `batched`, over all that is landed.

    `now` in seconds since 1970. A `dry_run` only says what there is to do.
    """
    done = Compacted()
    if batched:
        cut = closed(fs, layout)
        ends = cut.ends if cut is not None else {}
    else:
        ends = {p: position(fs, layout, p) for p in partitions(fs, layout.topic_root)}
    if not ends:
        return done
    begins = batches.begins(fs, layout)
    for partition, end in sorted(ends.items()):
        folders = [f"{layout.raw(partition)}/{name}" for name in fs.names(layout.raw(partition))]
        span = begins.offsets.get(partition, 0), end
        planned = [group for folder in folders for group in plan(fs.list(folder), partition, folder, span, settings)]
        with ThreadPoolExecutor(_THREADS) as pool:
            for outcomes in pool.map(lambda wide: _join(fs, layout, wide, codec, dry_run), planned):
                for outcome in outcomes:
                    done.add(outcome)
    if not dry_run:
        tidy(fs, layout, settings.grace_seconds, now(), done)
    return done


def closed(fs: Hdfs, layout: Layout) -> Cut | None:
    """The newest cut up to which everything has landed; None before there is one."""
    cut = batches.newest(fs, layout)
    first = batches.begins(fs, layout).number
    while cut is not None and cut.number > first:
        if ledger.landing(fs, layout, cut).landed_complete:
            return cut
        cut = batches.before(fs, layout, cut)
    return None


def plan(
    entries: list[Entry], partition: int, folder: str, span: tuple[int, int], settings: Compaction
) -> Iterator[Group]:
    """Runs of small visible neighbours of one format in a bucket, with all their offsets in begin <= offset < end."""
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


def _join(fs: Hdfs, layout: Layout, wide: Group, codec: Codec, dry_run: bool) -> list[Outcome]:
    """Writes what of the group can become one file each; why one can't be spares the others."""
    outcomes = []
    for group in _alike(fs, wide):
        outcome = Outcome(group.name(layout), len(group.parts), group.bytes)
        if not dry_run:
            try:
                outcome = replace(outcome, written=write(fs, layout, group, codec))
            except FileNotFoundError as error:
                outcome = replace(outcome, failed=f"gone meanwhile: {error}")
            except (ContainerError, StorageError) as error:
                outcome = replace(outcome, failed=str(error))
        outcomes.append(outcome)
    return outcomes


def _alike(fs: Hdfs, group: Group) -> Iterator[Group]:
    """The group in runs of equal columns, where its format knows no way from an older schema to a newer one.

    One with a part that can't be read stays whole: its merge will say why, and spare the others.
    """
    if group.suffix != "parquet":
        yield group
        return
    from storage.parquet_merge import columns, footer  # pyarrow takes a while to import

    try:
        footers = [footer(fs, path) for path in group.paths]
        found = [str(columns(one)) for one in footers]
    except (FileNotFoundError, ContainerError, StorageError):
        yield group
        return
    parts = zip(found, group.parts, group.sizes, footers, strict=True)
    for _, run in groupby(parts, itemgetter(0)):
        _, ranges, sizes, ends = zip(*run, strict=True)
        if len(ranges) > 1:
            yield replace(group, parts=ranges, sizes=sizes, footers=ends)


def write(fs: Hdfs, layout: Layout, group: Group, codec: Codec) -> bool:
    """Writes and publishes one group; False when somebody else did. Raises StorageError when a part is not in order."""
    final = group.name(layout)

    def merged(unfinished: str) -> None:
        written = _merge(fs, group, unfinished, codec)
        if (written.first, written.last) != (group.parts[0].first, group.parts[-1].last):
            raise StorageError(final, f"its parts say {written.first}..{written.last}")

    try:
        rewrite(fs, final, merged)
    except FileExistsError:
        return False
    return True


def _merge(fs: Hdfs, group: Group, target: str, codec: Codec) -> FileInfo:
    if group.suffix == "parquet":
        from storage import parquet_merge

        return parquet_merge.merge(fs, group.paths, target, group.footers)
    return merge.merge(fs, group.paths, target, codec)


def tidy(fs: Hdfs, layout: Layout, grace: float, now: float, done: Compacted) -> None:
    """Makes the ledgers' number of files true, then deletes what has been hidden, or left unfinished, long enough."""
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
    begins = batches.begins(fs, layout)
    done.ledgers = refresh_files(fs, layout, batches.all(fs, layout, begins.number), files)
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
    """Those of which the larger file says what they say, if readers still see that one instead of them."""
    info = file_info(fs, f"{folder}/{larger.name}")

    def agrees(part: Range) -> bool | None:
        try:
            return merge.says_the_same(info, file_info(fs, f"{folder}/{part.name}"))
        except FileNotFoundError:
            return None  # another compaction was here

    def delete(part: Range) -> bool:
        try:
            return fs.delete(f"{folder}/{part.name}")
        except FileNotFoundError:
            return False

    with ThreadPoolExecutor(_QUESTIONS) as pool:
        verdicts = list(zip(parts, pool.map(agrees, parts), strict=True))
        done.kept += [f"{folder}/{part.name}" for part, verdict in verdicts if verdict is False]
        if larger.name in {file.name for file in visible(fs.names(folder))}:
            done.deleted += sum(pool.map(delete, [part for part, verdict in verdicts if verdict]))
