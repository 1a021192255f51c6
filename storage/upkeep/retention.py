"""Retention: deletes old files of raw and quarantine once their batches are curated, and keeps their ledgers.

    <retired>/<name>.json       the ledger of a batch whose raw files are gone: a rebuild can't compute it again
    <retired>/begins.json       where raw begins since then; written before the first file is deleted
    <retired>/quarantine.json   where quarantine begins, which has a retention of its own

After a crash some files are left that belong to no batch; the next run deletes them.
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

from storage.batches import cuts, ledger
from storage.batches.cuts import Tree, TreeStart
from storage.batches.header_cache import drop
from storage.batches.ledger import BatchLedger
from storage.errors import StorageError
from storage.formats.headers import read_info
from storage.hdfs import Hdfs
from storage.landed import partitions
from storage.layout import Layout, bucket, parse, visible

_THREADS = 16


@dataclass(slots=True)
class Expired:
    """Names of the batches whose files were deleted. `refused`: the batch that stopped it: its gates do not balance.

    `records`: number of quarantined records that were deleted. `kept`: quarantine files that can't be read.
    """

    batches: list[str] = field(default_factory=list)
    files: int = 0
    refused: str | None = None
    records: int = 0
    kept: list[str] = field(default_factory=list)

    def facts(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


def expire(fs: Hdfs, layout: Layout, days: float, now: datetime, dry_run: bool = False) -> Expired:
    """Deletes the raw files of batches whose cut was taken more than `days` before `now`; 0 keeps all.

    Batches are deleted in order, up to the first one whose gates do not both balance. The newest file of each partition
    stays whatever its age: it tells the sink its position.
    """
    done = Expired()
    if not days:
        return done
    past, tree_start = _past(fs, layout, "raw", now - timedelta(days=days), done)
    if not dry_run:
        for found in past:
            ledger.record_landing(fs, layout, found)
            fs.write_atomically(f"{layout.retired}/{found.name}.json", found.to_json(), overwrite=True)
        _begin(fs, layout, "raw", past, tree_start)
    roots = {p: layout.raw(p) for p in partitions(fs, layout.topic_root)}
    paths = [path for p, root in roots.items() for path in _before(fs, root, tree_start.offsets.get(p, 0), newest=True)]
    done.files = len(paths)
    if not dry_run:
        _delete_raw(fs, layout, paths, tree_start)
    return done


def expire_unbatched(fs: Hdfs, layout: Layout, days: float, now: datetime, dry_run: bool = False) -> Expired:
    """The same for a topic without batches: deletes files that were written more than `days` before `now`."""
    done = Expired()
    if not days:
        return done
    before = (now - timedelta(days=days)).timestamp() * 1000
    offsets = dict(cuts.tree_start(fs, layout).offsets)
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
        tree_start = TreeStart(0, offsets)
        fs.write_atomically(cuts.tree_start_path(layout, "raw"), tree_start.to_json(), overwrite=True)
        _delete_raw(fs, layout, paths, tree_start)
    return done


def expire_quarantine(fs: Hdfs, layout: Layout, days: float, now: datetime, dry_run: bool = False) -> Expired:
    """Deletes the quarantine files of such batches, redriven or not, and their records of redriving."""
    done = Expired()
    if not days:
        return done
    past, tree_start = _past(fs, layout, "quarantine", now - timedelta(days=days), done)
    if not dry_run:
        _begin(fs, layout, "quarantine", past, tree_start)
    markers = []
    for p in partitions(fs, layout.quarantine(0).rsplit("/", 1)[0]):
        begin = tree_start.offsets.get(p, 0)
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
    _delete(fs, markers)  # after the files: a file without its marker would be redriven again
    return done


def _past(fs: Hdfs, layout: Layout, tree: Tree, before: datetime, done: Expired) -> tuple[list[BatchLedger], TreeStart]:
    """The ledgers of the batches that may be deleted now, and where the tree begins without them."""
    tree_start = cuts.tree_start(fs, layout, tree)
    past = []
    for cut in cuts.all_cuts(fs, layout, tree_start.number):
        if datetime.fromisoformat(cut.taken_at) >= before:
            break
        found = ledger.current(fs, layout, cut)
        if not found.published_balanced:
            done.refused = cut.name
            break
        past.append(found)
        tree_start = TreeStart(cut.number, cut.ends)
    done.batches = [found.name for found in past]
    return past, tree_start


def _begin(fs: Hdfs, layout: Layout, tree: Tree, past: list[BatchLedger], tree_start: TreeStart) -> None:
    if past:
        fs.write_atomically(cuts.tree_start_path(layout, tree), tree_start.to_json(), overwrite=True)


def _before(fs: Hdfs, root: str, begin: int, newest: bool = False) -> Iterator[str]:
    """A partition's files whose offsets all lie before `begin`; without the newest file if `newest` is kept."""
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
    """Records of redriving of files whose offsets all lie before `begin`."""
    root = layout.redriven(partition)
    for name in fs.names(root):
        file = parse(name.removesuffix(".json"))
        if file is not None and file.last < begin:
            yield f"{root}/{name}"


def _records(fs: Hdfs, path: str) -> int | None:
    """Number of records according to the file's header; None if that can't be read."""
    try:
        return read_info(fs, path).records
    except FileNotFoundError:
        return 0  # another run has deleted it
    except StorageError:
        return None


def _delete_raw(fs: Hdfs, layout: Layout, paths: list[str], tree_start: TreeStart) -> None:
    """Deletes the files, and the cached headers of buckets that end before raw begins."""
    _delete(fs, paths)
    for p, begin in tree_start.offsets.items():
        drop(fs, layout, p, begin)


def _delete(fs: Hdfs, paths: list[str]) -> None:
    def delete(path: str) -> None:
        with suppress(FileNotFoundError):
            fs.delete(path)

    with ThreadPoolExecutor(_THREADS) as pool:
        list(pool.map(delete, paths))
