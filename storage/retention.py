"""Files of raw and of quarantine go when they are old enough and were curated; what the ledger knew of them stays.

    <retired>/<name>.json       the ledger of a batch whose raw files are gone: a rebuild can't count it again
    <retired>/begins.json       where raw begins since; written before the first file goes
    <retired>/quarantine.json   the same of quarantine, whose retention is its own

So a crash leaves files that nobody counts any more, and the next run deletes them.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import takewhile
from operator import itemgetter
from typing import Any

from storage import batches, ledger
from storage.batches import Begins, Tree
from storage.errors import StorageError
from storage.hdfs import Hdfs
from storage.headers import file_info, forget
from storage.history import partitions
from storage.layout import Layout, bucket, parse, visible
from storage.ledger import BatchLedger

_THREADS = 16


@dataclass(slots=True)
class Expired:
    """Names of the batches whose files went; `refused` is the batch that stopped it: its ledger does not balance.

    `records` are counted of what was quarantined alone; `kept` are files there that can't say how many they hold.
    """

    batches: list[str] = field(default_factory=list)
    files: int = 0
    refused: str | None = None
    records: int = 0
    kept: list[str] = field(default_factory=list)

    def facts(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


def expire(fs: Hdfs, layout: Layout, days: float, now: datetime, dry_run: bool = False) -> Expired:
    """Deletes the raw files of whole batches whose cut was taken more than `days` before `now`; 0 keeps all.

    Batches go in their order, so the first one whose gates do not both balance keeps its files and those after it.
    The newest file of each partition stays whatever its age: it tells the sink where to go on.
    """
    done = Expired()
    if not days:
        return done
    past, begins = _past(fs, layout, "raw", now - timedelta(days=days), done)
    if not dry_run:
        for found in past:
            ledger.record_landing(fs, layout, found)
            fs.write_atomically(f"{layout.retired}/{found.name}.json", found.to_json(), overwrite=True)
        _begin(fs, layout, "raw", past, begins)
    roots = {p: layout.raw(p) for p in partitions(fs, layout.topic_root)}
    paths = [path for p, root in roots.items() for path in _before(fs, root, begins.offsets.get(p, 0), newest=True)]
    done.files = len(paths)
    if not dry_run:
        _delete_raw(fs, layout, paths, begins)
    return done


def expire_unbatched(fs: Hdfs, layout: Layout, days: float, now: datetime, dry_run: bool = False) -> Expired:
    """The same of a topic without batches, whose files go when they were written more than `days` before `now`."""
    done = Expired()
    if not days:
        return done
    before = (now - timedelta(days=days)).timestamp() * 1000
    offsets = dict(batches.begins(fs, layout).offsets)
    roots = {p: layout.raw(p) for p in partitions(fs, layout.topic_root)}
    for p, root in roots.items():
        for name in fs.names(root):
            written = {entry.name: entry.modified for entry in fs.list(f"{root}/{name}")}
            files = [(file, written[file.name] < before) for file in visible(written)]
            old = [file for file, _ in takewhile(itemgetter(1), files)]
            offsets[p] = max([offsets.get(p, 0), *(file.last + 1 for file in old)])
            if len(old) < len(files):
                break
    paths = [path for p, root in roots.items() for path in _before(fs, root, offsets.get(p, 0), newest=True)]
    done.files = len(paths)
    if paths and not dry_run:
        begins = Begins(0, offsets)
        fs.write_atomically(batches.begins_path(layout, "raw"), begins.to_json(), overwrite=True)
        _delete_raw(fs, layout, paths, begins)
    return done


def expire_quarantine(fs: Hdfs, layout: Layout, days: float, now: datetime, dry_run: bool = False) -> Expired:
    """Deletes what is quarantined of such batches, whether or not it was ever sent again, and what says that it was."""
    done = Expired()
    if not days:
        return done
    past, begins = _past(fs, layout, "quarantine", now - timedelta(days=days), done)
    if not dry_run:
        _begin(fs, layout, "quarantine", past, begins)
    markers = []
    for p in partitions(fs, layout.quarantine(0).rsplit("/", 1)[0]):
        begin = begins.offsets.get(p, 0)
        paths = list(_before(fs, layout.quarantine(p), begin))
        with ThreadPoolExecutor(_THREADS) as pool:
            counts = list(zip(paths, pool.map(lambda path: _records(fs, path), paths), strict=True))
        done.kept += [path for path, count in counts if count is None]
        paths = [path for path, count in counts if count is not None]
        done.files += len(paths)
        done.records += sum(count for _, count in counts if count is not None)
        if not dry_run:
            _delete(fs, paths)
            kept = {f"{path.rsplit('/', 1)[-1]}.json" for path in done.kept}
            markers += [path for path in _markers(fs, layout, p, begin) if path.rsplit("/", 1)[-1] not in kept]
    _delete(fs, markers)  # after the files: without its marker a file would be sent again
    return done


def _past(fs: Hdfs, layout: Layout, tree: Tree, before: datetime, done: Expired) -> tuple[list[BatchLedger], Begins]:
    """The batches that may go now, and where the tree begins without them."""
    begins = batches.begins(fs, layout, tree)
    past = []
    for cut in batches.all(fs, layout, begins.number):
        if datetime.fromisoformat(cut.taken_at) >= before:
            break
        found = ledger.landing(fs, layout, cut)
        if not found.published_balanced:
            done.refused = cut.name
            break
        past.append(found)
        begins = Begins(cut.number, cut.ends)
    done.batches = [found.name for found in past]
    return past, begins


def _begin(fs: Hdfs, layout: Layout, tree: Tree, past: list[BatchLedger], begins: Begins) -> None:
    if past:
        fs.write_atomically(batches.begins_path(layout, tree), begins.to_json(), overwrite=True)


def _before(fs: Hdfs, root: str, begin: int, newest: bool = False) -> Iterator[str]:
    """A partition's files that hold nothing from `begin` on, in buckets up to there; not the `newest` if it is kept."""
    kept = not newest
    for folder in reversed(fs.names(root)):
        if kept and folder > bucket(begin):
            continue
        names = fs.names(f"{root}/{folder}")
        last = visible(names)[-1:] if not kept else []
        kept = kept or bool(last)
        for name in names:
            file = parse(name)
            if file is not None and file.last < begin and not (last and name == last[0].name):
                yield f"{root}/{folder}/{name}"


def _markers(fs: Hdfs, layout: Layout, partition: int, begin: int) -> Iterator[str]:
    """What `redrive` noted of files that hold nothing from `begin` on."""
    root = layout.redriven(partition)
    for name in fs.names(root):
        file = parse(name.removesuffix(".json"))
        if file is not None and file.last < begin:
            yield f"{root}/{name}"


def _records(fs: Hdfs, path: str) -> int | None:
    """How many records a file says it holds; None when it says nothing that can be read."""
    try:
        return file_info(fs, path).records
    except FileNotFoundError:
        return 0  # another run was here
    except StorageError:
        return None


def _delete_raw(fs: Hdfs, layout: Layout, paths: list[str], begins: Begins) -> None:
    """The files, and what was remembered of the buckets that end before raw begins."""
    _delete(fs, paths)
    for p, begin in begins.offsets.items():
        forget(fs, layout, p, begin)


def _delete(fs: Hdfs, paths: list[str]) -> None:
    def delete(path: str) -> None:
        with suppress(FileNotFoundError):
            fs.delete(path)

    with ThreadPoolExecutor(_THREADS) as pool:
        list(pool.map(delete, paths))
