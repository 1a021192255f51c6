"""Paths and file names: pure functions of topic, partition and offsets, never of a clock.

/clickstream/raw/clicks/p=03/b=0000000012/clicks+3+<first>+<last>.avro     offsets first..last, both included
/clickstream/quarantine/clicks/p=03/b=…/…                                   the same for unreadable records
/clickstream/epochs/clicks/p=03/{e=N,fenced}/                               which process owns the partition
/clickstream/cuts/clicks/<name>.json                                        end offsets of a batch
/clickstream/ledger/clicks/<name>.json                                      the ledger of a batch
/clickstream/ledger/clicks/published/<name>.json                            the counts of its curation
/clickstream/ledger/clicks/sessions/<name>.json                             exists once its sessions were built
/clickstream/redriven/clicks/p=03/<file>.json                               redriven offsets of a quarantine file
/clickstream/remembered/clicks/p=03/<bucket>.json                           cached headers of the bucket's files
/clickstream/retired/clicks/                                                ledgers of batches whose files were deleted
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

BUCKET = 10_000_000  # offsets; a file never crosses a multiple of it
_TEMPORARY = ".rewrite.tmp"
_FILE = re.compile(
    r"^(?P<topic>[A-Za-z0-9._-]+)\+(?P<partition>\d+)\+(?P<first>\d{19})\+(?P<last>\d{19})\.(?P<suffix>\w+)$"
)


@dataclass(frozen=True, slots=True, order=True)
class Range:
    """Offsets `first`..`last` of a partition, both included, and the name of the file that holds them."""

    first: int
    last: int
    name: str = ""

    def __len__(self) -> int:
        return self.last - self.first + 1

    def intersect(self, start: int, end: int) -> Range | None:
        """The part in start <= offset < end, None if there is none."""
        first, last = max(self.first, start), min(self.last, end - 1)
        return Range(first, last, self.name) if first <= last else None


@dataclass(frozen=True, slots=True)
class Layout:
    """Paths of one topic under `root`."""

    root: str
    topic: str

    @property
    def topic_root(self) -> str:
        """Folder of the topic's partitions."""
        return f"{self.root}/raw/{self.topic}"

    def raw(self, partition: int) -> str:
        return f"{self.topic_root}/p={partition:02d}"

    def quarantine(self, partition: int) -> str:
        return f"{self.root}/quarantine/{self.topic}/p={partition:02d}"

    def epochs(self, partition: int) -> str:
        return f"{self.root}/epochs/{self.topic}/p={partition:02d}"

    @property
    def cuts(self) -> str:
        return f"{self.root}/cuts/{self.topic}"

    @property
    def ledger(self) -> str:
        return f"{self.root}/ledger/{self.topic}"

    def redriven(self, partition: int) -> str:
        return f"{self.root}/redriven/{self.topic}/p={partition:02d}"

    @property
    def header_cache(self) -> str:
        return f"{self.root}/remembered/{self.topic}"

    @property
    def retired(self) -> str:
        return f"{self.root}/retired/{self.topic}"

    def file(self, partition: int, first: int, last: int, suffix: str) -> str:
        """Path below raw(partition) or quarantine(partition): bucket and file name."""
        if not 0 <= first <= last or first // BUCKET != last // BUCKET:
            raise ValueError(f"offsets {first}..{last} are no range within one bucket of {BUCKET}")
        return f"{bucket(first)}/{self.topic}+{partition}+{first:019d}+{last:019d}.{suffix}"


def bucket(offset: int) -> str:
    """Name of the folder that holds this offset."""
    return f"b={offset // BUCKET:010d}"


def parse(name: str) -> Range | None:
    """The range in a file's name; None if the name is not a landed file's."""
    match = _FILE.match(name.rsplit("/", 1)[-1])
    return Range(int(match["first"]), int(match["last"]), name) if match else None


def visible(names: Iterable[str]) -> list[Range]:
    """The files that readers see, in order of offsets: a range contained in another is hidden.

    So a compacted file replaces its parts at the moment it appears.
    """
    ranges = sorted(filter(None, map(parse, names)), key=lambda r: (r.first, -r.last, r.name))
    seen: list[Range] = []
    for candidate in ranges:
        if not seen or candidate.last > seen[-1].last:
            seen.append(candidate)
    return seen


def temporary_path(path: str) -> str:
    """A path beside `path` for a file that will be renamed to it; compaction deletes it if its writer dies before."""
    folder, name = path.rsplit("/", 1)
    return f"{folder}/_{name}.{uuid.uuid4().hex}{_TEMPORARY}"


def is_temporary(name: str) -> bool:
    """Whether `temporary_path` made this name."""
    return name.startswith("_") and name.endswith(_TEMPORARY)


def split(first: int, last: int) -> Iterator[tuple[int, int]]:
    """`first`..`last`, split where buckets end."""
    while first <= last:
        end = min(last, (first // BUCKET + 1) * BUCKET - 1)
        yield first, end
        first = end + 1


def quality_report(root: str, table: str, number: int) -> str:
    """Path of a job's quality findings about its rows of a batch; the file exists only if there are any."""
    return f"{root}/quality/{table}/batch={number}.json"
