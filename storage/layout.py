"""Paths and file names: pure functions of topic, partition and offsets, never of a clock.

/clickstream/raw/clicks/p=03/b=0000000012/clicks+3+<first>+<last>.avro     offsets first..last, both included
/clickstream/quarantine/clicks/p=03/b=…/…                                   the same tree, for what can't be read
/clickstream/epochs/clicks/p=03/{e=N,fenced}/                               who owns the partition
/clickstream/cuts/clicks/<name>.json                                        where a batch ends
/clickstream/ledger/clicks/<name>.json                                      what became of a batch
/clickstream/ledger/clicks/published/<name>.json                            what curation counted of it
/clickstream/ledger/clicks/sessions/<name>.json                             that its sessions were built
/clickstream/redriven/clicks/p=03/<file>.json                               what of a quarantine file was sent again
/clickstream/remembered/clicks/p=03/<bucket>.json                           what its files' headers say
/clickstream/retired/clicks/                                                what is kept of batches whose files are gone
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
        """The part in start <= offset < end, None where there is none."""
        first, last = max(self.first, start), min(self.last, end - 1)
        return Range(first, last, self.name) if first <= last else None


@dataclass(frozen=True, slots=True)
class Layout:
    """Paths of one topic under `root`."""

    root: str
    topic: str

    @property
    def topic_root(self) -> str:
        """Where the topic's partitions lie."""
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
    def remembered(self) -> str:
        return f"{self.root}/remembered/{self.topic}"

    @property
    def retired(self) -> str:
        return f"{self.root}/retired/{self.topic}"

    def file(self, partition: int, first: int, last: int, suffix: str = "avro") -> str:
        """Path below raw(partition) or quarantine(partition): bucket and file name."""
        if not 0 <= first <= last or first // BUCKET != last // BUCKET:
            raise ValueError(f"offsets {first}..{last} are no range within one bucket of {BUCKET}")
        return f"{bucket(first)}/{self.topic}+{partition}+{first:019d}+{last:019d}.{suffix}"


def bucket(offset: int) -> str:
    """Name of the folder that holds this offset."""
    return f"b={offset // BUCKET:010d}"


def parse(name: str) -> Range | None:
    """The range that a file's name states; None for a name that is none of ours."""
    match = _FILE.match(name.rsplit("/", 1)[-1])
    return Range(int(match["first"]), int(match["last"]), name) if match else None


def visible(names: Iterable[str]) -> list[Range]:
    """The files that readers see, in order of offsets: a range contained in another is hidden.

    So a compacted file replaces its parts in the one moment in which it appears.
    """
    ranges = sorted(filter(None, map(parse, names)), key=lambda r: (r.first, -r.last, r.name))
    seen: list[Range] = []
    for candidate in ranges:
        if not seen or candidate.last > seen[-1].last:
            seen.append(candidate)
    return seen


def temporary(path: str) -> str:
    """A name beside `path` for a file that will be renamed to it; who dies before that leaves it to compaction."""
    folder, name = path.rsplit("/", 1)
    return f"{folder}/_{name}.{uuid.uuid4().hex}{_TEMPORARY}"


def is_temporary(name: str) -> bool:
    """Whether `temporary` gave this name."""
    return name.startswith("_") and name.endswith(_TEMPORARY)


def split(first: int, last: int) -> Iterator[tuple[int, int]]:
    """`first`..`last` cut where buckets end."""
    while first <= last:
        end = min(last, (first // BUCKET + 1) * BUCKET - 1)
        yield first, end
        first = end + 1


def quality_report(root: str, table: str, number: int) -> str:
    """Where a job tells what it found wrong with its rows of a batch; there is none where nothing is wrong."""
    return f"{root}/quality/{table}/batch={number}.json"
