"""Raw files go when they are old enough and have been curated; what the ledger knew of them stays.

    <retired>/<name>.json     the ledger of a batch whose files are gone: a rebuild can't count it again
    <retired>/begins.json     where raw begins since; written before the first file goes

So a crash leaves files that nobody counts any more, and the next run deletes them.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from storage import batches, ledger
from storage.batches import Begins, Cut
from storage.hdfs import Hdfs
from storage.history import partitions
from storage.layout import Layout, bucket, parse, visible

_THREADS = 16


@dataclass(slots=True)
class Expired:
    """Names of the batches whose files went; `refused` is the batch that stopped it: its ledger does not balance."""

    batches: list[str] = field(default_factory=list)
    files: int = 0
    refused: str | None = None

    def facts(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


def expire(fs: Hdfs, layout: Layout, days: float, now: datetime, dry_run: bool = False) -> Expired:
    """Deletes the files of whole batches whose cut was taken more than `days` before `now`; 0 keeps all.

    Batches go in their order, so the first one whose gates do not both balance keeps its files and those after it.
    The newest file of each partition stays whatever its age: it tells the sink where to go on.
    """
    done = Expired()
    if not days:
        return done
    begins = batches.begins(fs, layout)
    gone: Cut | None = None
    for cut in batches.all(fs, layout, begins.number):
        if datetime.fromisoformat(cut.taken_at) >= now - timedelta(days=days):
            break
        found = ledger.landing(fs, layout, cut)
        if not found.published_balanced:
            done.refused = cut.name
            break
        if not dry_run:
            ledger.record_landing(fs, layout, found)
            fs.write_atomically(f"{layout.retired}/{cut.name}.json", found.to_json(), overwrite=True)
        gone = cut
        done.batches.append(cut.name)
    if gone is not None:
        begins = Begins(gone.number, gone.ends)
        if not dry_run:
            fs.write_atomically(f"{layout.retired}/begins.json", begins.to_json(), overwrite=True)
    paths = [path for p in partitions(fs, layout.raw(0).rsplit("/", 1)[0]) for path in _before(fs, layout, p, begins)]
    done.files = len(paths)
    if not dry_run:
        with ThreadPoolExecutor(_THREADS) as pool:
            list(pool.map(fs.delete, paths))
    return done


def _before(fs: Hdfs, layout: Layout, partition: int, begins: Begins) -> Iterator[str]:
    """Files that hold nothing from where raw begins on, in buckets up to there; never the partition's newest."""
    begin = begins.offsets.get(partition, 0)
    root = layout.raw(partition)
    kept = False
    for folder in reversed(fs.names(root)):
        if kept and folder > bucket(begin):
            continue
        names = fs.names(f"{root}/{folder}")
        newest = visible(names)[-1:] if not kept else []
        kept = kept or bool(newest)
        for name in names:
            file = parse(name)
            if file is not None and file.last < begin and not (newest and name == newest[0].name):
                yield f"{root}/{folder}/{name}"
