"""What became of each offset of a batch, partition by partition; two gates that must balance exactly.

Landing gate: offsets of the batch = landed + quarantined + explained + lost, computed from the files' names and
headers. A file may reach over a cut: only its part within the batch counts. Publish gate: landed = curated +
duplicates + invalid, as the curate job counted them, each on its own, in what it wrote. Late events are a part of
curated.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, replace
from typing import Any

from storage import batches
from storage.batches import Cut, RawFile
from storage.containers import FileInfo
from storage.errors import BatchError, StorageError
from storage.hdfs import Hdfs
from storage.headers import Memory
from storage.layout import Layout, Range

Counts = Mapping[int, tuple[int, int, int]]  # partition -> (curated, duplicates, invalid)
_THREADS = 16


@dataclass(frozen=True, slots=True)
class PartitionLedger:
    """Offsets start <= offset < end of one partition. The last three are None until the batch was curated."""

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
        """Offsets that no visible file answers for yet; below 0 if two files answer for the same one."""
        return self.offsets - self.landed - self.quarantined - self.explained - self.lost

    @property
    def unpublished(self) -> int | None:
        """Landed records that curation does not account for; None before it."""
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
        """The landing gate: whether each offset is accounted for, exactly once."""
        return not self.missing

    @property
    def missing(self) -> dict[int, int]:
        """partition -> offsets not accounted for, of those where there are any."""
        return {p.partition: p.missing for p in self.partitions if p.missing}

    @property
    def curated_yet(self) -> bool:
        """Whether the curate job has recorded its counts of all partitions."""
        return all(p.unpublished is not None for p in self.partitions)

    @property
    def published_balanced(self) -> bool:
        """The publish gate; closed as long as the batch has not been curated."""
        return self.landed_complete and all(p.unpublished == 0 for p in self.partitions)

    def total(self, column: str) -> int:
        """Sum of a column over the partitions; what is not known yet counts as 0."""
        return sum(getattr(p, column) or 0 for p in self.partitions)

    @property
    def appended(self) -> int:
        """Records that were ever in Kafka in this batch: its offsets, but for those that never were a record."""
        return self.total("offsets") - self.total("explained")

    def facts(self) -> dict[str, Any]:
        """For people and scripts: sums, and whether the gates balance."""
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


def landing(fs: Hdfs, layout: Layout, cut: Cut) -> BatchLedger:
    """The ledger as of now. Writes nothing but what headers said, for who asks next, and asks Kafka nothing.

    What was recorded of a batch that has landed completely is final and not counted again.
    """
    stored = recorded(fs, layout, cut.name)
    return stored if stored is not None and stored.landed_complete else count(fs, layout, cut)


def look(fs: Hdfs, layout: Layout, cut: Cut) -> BatchLedger:
    """The ledger as of now, recorded as soon as it is complete: nobody counts it again."""
    found = landing(fs, layout, cut)
    record_landing(fs, layout, found)
    return found


def count(fs: Hdfs, layout: Layout, cut: Cut) -> BatchLedger:
    """The ledger from the files' names and headers, and from what curation recorded."""
    asked: dict[int, list[tuple[RawFile, Future[FileInfo]]]] = {partition: [] for partition in sorted(cut.ends)}
    with ThreadPoolExecutor(_THREADS) as pool, ExitStack() as readers:
        memory = Memory(fs, layout, pool)
        for folder, entries, files in batches.folders(fs, layout, cut):
            read = readers.enter_context(memory(folder, entries))
            for file in files:
                asked[file.partition].append((file, pool.submit(read, file.path)))
        rows = [
            tally(PartitionLedger(p, cut.starts[p], cut.ends[p]), [(file, info.result()) for file, info in found])
            for p, found in asked.items()
        ]
    ledger = BatchLedger(cut.name, cut.number, cut.topic, tuple(rows))
    return with_published(ledger, published(fs, layout, cut.name))


def read(fs: Hdfs, layout: Layout, cut: Cut) -> BatchLedger:
    """The ledger as it was last recorded. Raises BatchError when it has not been."""
    ledger = recorded(fs, layout, cut.name)
    if ledger is None:
        raise BatchError(f"batch {cut.name} has no ledger yet; `clickstream ledger --batch {cut.name}` counts")
    return ledger


def record_landing(fs: Hdfs, layout: Layout, ledger: BatchLedger) -> None:
    """Keeps the ledger beside the data once the landing gate balances; nothing is written before, or twice."""
    if not ledger.landed_complete:
        return
    stored = recorded(fs, layout, ledger.name)
    if stored is None or not stored.landed_complete:
        write(fs, layout, ledger)


def record_publish(fs: Hdfs, layout: Layout, cut: Cut, counts: Counts) -> BatchLedger:
    """Records what curation made of the batch: partition -> (curated, duplicates, invalid); none counts as zeros.

    They are kept in a file of their own as well: the only terms that can't be counted again from raw.
    """
    unknown = counts.keys() - cut.ends.keys()
    if unknown:
        raise BatchError(f"batch {cut.name} has no partitions {sorted(unknown)}")
    whole = {p: counts.get(p, (0, 0, 0)) for p in cut.ends}
    record_counts(fs, layout, cut.name, whole)
    return write(fs, layout, with_published(landing(fs, layout, cut), whole))


def record_counts(fs: Hdfs, layout: Layout, name: str, counts: Counts) -> None:
    """Keeps what curation counted where a rebuild finds it without asking the tables."""
    data = json.dumps({str(p): list(terms) for p, terms in sorted(counts.items())}).encode()
    fs.write_atomically(_published_path(layout, name), data, overwrite=True)


def write(fs: Hdfs, layout: Layout, ledger: BatchLedger) -> BatchLedger:
    """Keeps the ledger; gives what was written at last.

    Curation may record its counts at the same moment: whoever writes looks for them afterwards, so that the last
    writer has seen them.
    """
    while True:
        fs.write_atomically(path(layout, ledger.name), ledger.to_json(), overwrite=True)
        again = with_published(ledger, published(fs, layout, ledger.name))
        if again == ledger:
            return ledger
        ledger = again


def published(fs: Hdfs, layout: Layout, name: str) -> Counts:
    """What curation recorded: partition -> (curated, duplicates, invalid); empty before it.

    Of batches that were curated before these counts had a file of their own, only the ledger knows them.
    """
    place = _published_path(layout, name)
    try:
        document = json.loads(fs.read(place))
        return {int(p): (int(c), int(d), int(i)) for p, (c, d, i) in document.items()}
    except FileNotFoundError:
        stored = recorded(fs, layout, name)
        rows = stored.partitions if stored is not None else ()
        return {p.partition: (p.curated, p.duplicates or 0, p.invalid or 0) for p in rows if p.curated is not None}
    except (ValueError, TypeError, AttributeError) as error:
        raise StorageError(place, f"not the counts of a batch: {error!r}") from error


def with_published(ledger: BatchLedger, counts: Counts) -> BatchLedger:
    """The ledger with these publish terms; as it is without any."""
    if not counts:
        return ledger
    rows = []
    for row in ledger.partitions:
        curated, duplicates, invalid = counts.get(row.partition, (0, 0, 0))
        rows.append(replace(row, curated=curated, duplicates=duplicates, invalid=invalid))
    return replace(ledger, partitions=tuple(rows))


def tally(row: PartitionLedger, files: Iterable[tuple[RawFile, FileInfo]]) -> PartitionLedger:
    """The row with the landing terms of these files. Raises StorageError where name and header differ."""
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


def recorded(fs: Hdfs, layout: Layout, name: str) -> BatchLedger | None:
    """The ledger as it was last recorded; None when it has not been."""
    with suppress(FileNotFoundError):
        return BatchLedger.from_json(fs.read(path(layout, name)))
    return None


def balanced(fs: Hdfs, layout: Layout, name: str) -> bool:
    """Whether the batch went through the publish gate."""
    found = recorded(fs, layout, name)
    return found is not None and found.published_balanced


def record_sessions(fs: Hdfs, layout: Layout, name: str) -> None:
    """Keeps that the batch's sessions were built."""
    fs.write_atomically(_sessions_path(layout, name), b"{}\n", overwrite=True)


def finished(fs: Hdfs, layout: Layout, name: str) -> bool:
    """Whether the batch is through the publish gate and its sessions were built.

    Where no batch is known to have sessions an earlier version, which did not say so, has built them.
    """
    if not balanced(fs, layout, name):
        return False
    return fs.exists(_sessions_path(layout, name)) or not fs.exists(f"{layout.ledger}/sessions")


def newest_curated(fs: Hdfs, layout: Layout) -> Cut:
    """The newest cut whose batch went through the publish gate. Raises BatchError when there is none."""
    cut = batches.newest(fs, layout)
    while cut is not None:
        if balanced(fs, layout, cut.name):
            return cut
        cut = batches.before(fs, layout, cut)
    raise BatchError(f"{layout.topic} has no curated batch yet; the DAG clickstream_hourly curates one")


def path(layout: Layout, name: str) -> str:
    """Where the ledger of the batch of that name lies."""
    return f"{layout.ledger}/{name}.json"


def _published_path(layout: Layout, name: str) -> str:
    return f"{layout.ledger}/published/{name}.json"


def _sessions_path(layout: Layout, name: str) -> str:
    return f"{layout.ledger}/sessions/{name}.json"
