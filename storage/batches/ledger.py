"""The completeness ledger of a batch: what became of each offset, by partition, and two gates that must balance.

Landing gate: offsets of the batch = landed + quarantined + explained + lost, computed from the files' names and
headers. If a file crosses a cut, only its part within the batch counts. Publish gate: landed = curated + duplicates +
invalid, as the curate job counted each of them in what it wrote. Late events are part of curated.

    <ledger>/<batch>.json             the batch's ledger
    <ledger>/published/<batch>.json   curated, duplicates and invalid by partition, as the curate job counted them
    <ledger>/sessions/<batch>.json    exists once the batch's sessions were built
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, replace
from typing import Any

from storage.batches import cuts
from storage.batches.cuts import Cut, RawFile
from storage.batches.header_cache import HeaderCache
from storage.errors import BatchError, StorageError
from storage.formats.file_info import FileInfo
from storage.hdfs import Hdfs
from storage.layout import Layout, Range

Counts = Mapping[int, tuple[int, int, int]]  # partition -> (curated, duplicates, invalid)
_THREADS = 16


@dataclass(frozen=True, slots=True)
class PartitionLedger:
    """Counts of offsets start <= offset < end of one partition; the last three are None until the batch is curated."""

    partition: int
    start: int
    end: int
    landed: int = 0
    quarantined: int = 0
    explained: int = 0
    lost: int = 0
    files: int = 0
    curated: int | None = None
    duplicates: int | None = None
    invalid: int | None = None

    @property
    def offsets(self) -> int:
        return self.end - self.start

    @property
    def missing(self) -> int:
        """Offsets that no visible file covers yet; negative if two files cover the same offset."""
        return self.offsets - self.landed - self.quarantined - self.explained - self.lost

    @property
    def unpublished(self) -> int | None:
        """Landed records that curation does not account for; None until the batch is curated."""
        if self.curated is None or self.duplicates is None or self.invalid is None:
            return None
        return self.landed - self.curated - self.duplicates - self.invalid


@dataclass(frozen=True, slots=True)
class BatchLedger:
    """The ledger of one cut."""

    name: str
    number: int
    topic: str
    partitions: tuple[PartitionLedger, ...]

    @property
    def landed_complete(self) -> bool:
        """The landing gate: whether each offset is accounted for exactly once."""
        return not self.missing

    @property
    def missing(self) -> dict[int, int]:
        """Partition -> number of offsets not accounted for, without partitions that have none."""
        return {p.partition: p.missing for p in self.partitions if p.missing}

    @property
    def curated_yet(self) -> bool:
        """Whether the curate job has recorded its counts of all partitions."""
        return all(p.unpublished is not None for p in self.partitions)

    @property
    def published_balanced(self) -> bool:
        """The publish gate; closed until the batch is curated."""
        return self.landed_complete and all(p.unpublished == 0 for p in self.partitions)

    def total(self, column: str) -> int:
        """Sum of a column over the partitions; None counts as 0."""
        return sum(getattr(p, column) or 0 for p in self.partitions)

    @property
    def appended(self) -> int:
        """Number of records that were appended to Kafka: the batch's offsets without its explained gaps."""
        return self.total("offsets") - self.total("explained")

    def facts(self) -> dict[str, Any]:
        """Sums over the partitions, and whether the gates balance, for people and scripts."""
        columns = ("offsets", "landed", "quarantined", "explained", "lost", "missing")
        sums = {column: self.total(column) for column in columns}
        published = {c: self.total(c) if self.curated_yet else None for c in ("curated", "duplicates", "invalid")}
        return {
            "batch": self.name,
            "number": self.number,
            "appended": self.appended,
            **sums,
            "landed_files": self.total("files"),
            **published,
            "landed_complete": self.landed_complete,
            "published_balanced": self.published_balanced,
        }

    def to_json(self) -> bytes:
        return json.dumps(asdict(self), indent=1).encode()

    @classmethod
    def from_json(cls, data: bytes) -> BatchLedger:
        """Raises BatchError when it is none."""
        try:
            document = json.loads(data)
            partitions = tuple(PartitionLedger(**row) for row in document.pop("partitions"))
            return cls(**document, partitions=partitions)
        except (ValueError, KeyError, TypeError) as error:
            raise BatchError(f"not a ledger: {error!r}") from error


def current(fs: Hdfs, layout: Layout, cut: Cut) -> BatchLedger:
    """The ledger as of now: the stored one if it is complete, which is final, else computed. Stores no ledger."""
    stored = load_or_none(fs, layout, cut.name)
    return stored if stored is not None and stored.landed_complete else compute(fs, layout, cut)


def refresh(fs: Hdfs, layout: Layout, cut: Cut) -> BatchLedger:
    """The ledger as of now, stored as soon as it is complete."""
    found = current(fs, layout, cut)
    record_landing(fs, layout, found)
    return found


def compute(fs: Hdfs, layout: Layout, cut: Cut) -> BatchLedger:
    """The ledger computed from the files' names and headers, and from the counts that curation recorded."""
    asked: dict[int, list[tuple[RawFile, Future[FileInfo]]]] = {partition: [] for partition in sorted(cut.ends)}
    with ThreadPoolExecutor(_THREADS) as pool, ExitStack() as readers:
        cache = HeaderCache(fs, layout, pool)
        for folder, entries, files in cuts.folders(fs, layout, cut):
            read = readers.enter_context(cache(folder, entries))
            for file in files:
                asked[file.partition].append((file, pool.submit(read, file.path)))
        rows = [
            tally(PartitionLedger(p, cut.starts[p], cut.ends[p]), [(file, info.result()) for file, info in found])
            for p, found in asked.items()
        ]
    ledger = BatchLedger(cut.name, cut.number, cut.topic, tuple(rows))
    return with_counts(ledger, load_counts(fs, layout, cut.name))


def load(fs: Hdfs, layout: Layout, cut: Cut) -> BatchLedger:
    """The stored ledger. Raises BatchError if there is none."""
    ledger = load_or_none(fs, layout, cut.name)
    if ledger is None:
        raise BatchError(f"batch {cut.name} has no ledger yet; `clickstream ledger --batch {cut.name}` counts")
    return ledger


def record_landing(fs: Hdfs, layout: Layout, ledger: BatchLedger) -> None:
    """Stores the ledger if its landing gate balances and the stored one's does not yet."""
    if not ledger.landed_complete:
        return
    stored = load_or_none(fs, layout, ledger.name)
    if stored is None or not stored.landed_complete:
        write(fs, layout, ledger)


def record_publish(fs: Hdfs, layout: Layout, cut: Cut, counts: Counts) -> BatchLedger:
    """Stores the counts of curation, in the ledger and in a file of their own: they can't be computed again from raw.

    `counts`: partition -> (curated, duplicates, invalid); partitions without counts get zeros.
    """
    unknown = counts.keys() - cut.ends.keys()
    if unknown:
        raise BatchError(f"batch {cut.name} has no partitions {sorted(unknown)}")
    whole = {p: counts.get(p, (0, 0, 0)) for p in cut.ends}
    record_counts(fs, layout, cut.name, whole)
    return write(fs, layout, with_counts(current(fs, layout, cut), whole))


def record_counts(fs: Hdfs, layout: Layout, name: str, counts: Counts) -> None:
    """Stores the counts of curation in a file of their own, where a rebuild finds them."""
    data = json.dumps({str(p): list(terms) for p, terms in sorted(counts.items())}).encode()
    fs.write_atomically(_published_path(layout, name), data, overwrite=True)


def write(fs: Hdfs, layout: Layout, ledger: BatchLedger) -> BatchLedger:
    """Stores the ledger; returns what was written last.

    Curation may record its counts at the same moment: each writer looks for them afterwards, so the last one has seen
    them.
    """
    while True:
        fs.write_atomically(path(layout, ledger.name), ledger.to_json(), overwrite=True)
        again = with_counts(ledger, load_counts(fs, layout, ledger.name))
        if again == ledger:
            return ledger
        ledger = again


def load_counts(fs: Hdfs, layout: Layout, name: str) -> Counts:
    """The counts of curation: partition -> (curated, duplicates, invalid); empty if the batch is not curated.

    Batches that an earlier version curated have them in their ledger only.
    """
    source = _published_path(layout, name)
    try:
        document = json.loads(fs.read(source))
        return {int(p): (int(c), int(d), int(i)) for p, (c, d, i) in document.items()}
    except FileNotFoundError:
        stored = load_or_none(fs, layout, name)
        rows = stored.partitions if stored is not None else ()
        return {p.partition: (p.curated, p.duplicates or 0, p.invalid or 0) for p in rows if p.curated is not None}
    except (ValueError, TypeError, AttributeError) as error:
        raise StorageError(source, f"not the counts of a batch: {error!r}") from error


def with_counts(ledger: BatchLedger, counts: Counts) -> BatchLedger:
    """The ledger with these counts of curation; unchanged if there are none."""
    if not counts:
        return ledger
    rows = []
    for row in ledger.partitions:
        curated, duplicates, invalid = counts.get(row.partition, (0, 0, 0))
        rows.append(replace(row, curated=curated, duplicates=duplicates, invalid=invalid))
    return replace(ledger, partitions=tuple(rows))


def tally(row: PartitionLedger, files: Iterable[tuple[RawFile, FileInfo]]) -> PartitionLedger:
    """The row with the landing terms of these files added. Raises StorageError if a name and a header differ."""
    for file, info in files:
        if (info.partition, info.first, info.last) != (row.partition, file.range.first, file.range.last):
            raise StorageError(file.path, f"its header says partition {info.partition}, {info.first}..{info.last}")
        part = file.part
        quarantined = sum(_within(part, first, last) for first, last in info.quarantined)
        lost = sum(_within(part, first, last) for first, last, reason in info.gaps if reason == "lost")
        explained = sum(_within(part, first, last) for first, last, reason in info.gaps if reason != "lost")
        row = replace(
            row,
            landed=row.landed + len(part) - quarantined - lost - explained,
            quarantined=row.quarantined + quarantined,
            explained=row.explained + explained,
            lost=row.lost + lost,
            files=row.files + 1,
        )
    return row


def _within(part: Range, first: int, last: int) -> int:
    return max(0, min(part.last, last) - max(part.first, first) + 1)


def load_or_none(fs: Hdfs, layout: Layout, name: str) -> BatchLedger | None:
    """The stored ledger; None if there is none."""
    with suppress(FileNotFoundError):
        return BatchLedger.from_json(fs.read(path(layout, name)))
    return None


def balanced(fs: Hdfs, layout: Layout, name: str) -> bool:
    """Whether the stored ledger's publish gate balances."""
    found = load_or_none(fs, layout, name)
    return found is not None and found.published_balanced


def record_sessions(fs: Hdfs, layout: Layout, name: str) -> None:
    """Records that the batch's sessions were built."""
    fs.write_atomically(_sessions_path(layout, name), b"{}\n", overwrite=True)


def finished(fs: Hdfs, layout: Layout, name: str) -> bool:
    """Whether the batch's publish gate balances and its sessions were built.

    If no batch has a record of its sessions, an earlier version built them, which recorded none.
    """
    if not balanced(fs, layout, name):
        return False
    return fs.exists(_sessions_path(layout, name)) or not fs.exists(f"{layout.ledger}/sessions")


def newest_curated(fs: Hdfs, layout: Layout) -> Cut:
    """The newest cut whose batch's publish gate balances. Raises BatchError if there is none."""
    cut = cuts.newest(fs, layout)
    while cut is not None:
        if balanced(fs, layout, cut.name):
            return cut
        cut = cuts.before(fs, layout, cut)
    raise BatchError(f"{layout.topic} has no curated batch yet; the DAG clickstream_hourly curates one")


def path(layout: Layout, name: str) -> str:
    """Path of the batch's ledger."""
    return f"{layout.ledger}/{name}.json"


def _published_path(layout: Layout, name: str) -> str:
    return f"{layout.ledger}/published/{name}.json"


def _sessions_path(layout: Layout, name: str) -> str:
    return f"{layout.ledger}/sessions/{name}.json"
