"""Proof, for all history of a topic, that each offset is on HDFS exactly once: from names, headers and, deep, records.

A plain audit reads a file's header once in its life: while the NameNode says that the file has the same name, length
and time of change, it says what it said (storage/headers.py). So it proves that the files that once said what they hold
are still there, unchanged, and together account for each offset; not that their blocks can still be read. Fresh reads
every header from its file again, deep every record, and neither believes what is remembered.

A violation is whatever contradicts that:

- visible files of a partition overlap, leave a hole, do not begin where raw begins, or have a name, a folder and a
  header that differ; a header whose records, quarantined spans and gaps do not account for each offset of its range;
- an offset that a header calls quarantined, but that no file under quarantine/ within the same range holds, unless it
  lies before where quarantine begins since its retention;
- a batch that the ledger calls complete and whose files say otherwise, a chain of cuts that breaks;
- an offset that is visible as lost, or not at all, while a complete file of some epoch holds it: it should have been
  published;
- deep: a record that does not decode by the schema in its file, or is not the next that its header promises.

Not a violation is what a crash leaves behind: a file in the folder of an epoch, live or fenced, that lies beyond the
last visible offset (it is still being written, or the next owner reads the same again from Kafka) or whose range was
landed by a successor; a temporary file that compaction left; a quarantine file whose sister never appeared; the last
cut without its file by name. Those in epochs are counted as remainders. Event ids that appear more than once are told
and no violation: curation removes them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from storage import batches, ledger
from storage.audit_files import Auditor, Finding, Totals
from storage.audit_ids import DistinctIds
from storage.batches import Begins, Cut
from storage.errors import BatchError, StorageError
from storage.hdfs import Hdfs
from storage.headers import Memory, anew
from storage.history import READERS, Landed, Sweep, partitions, walk
from storage.layout import Layout
from storage.ledger import BatchLedger

_KEPT = 100  # violations told one by one
Progress = Callable[[int], None]


@dataclass(slots=True)
class Audit:
    """What was proved, or what contradicts it. `events` and `distinct_ids` are None unless deep.

    `headers_read` of the files' headers were read just now, `unremembered` says why they could not be remembered.
    """

    topic: str
    deep: bool
    batches: int = 0
    partitions: dict[int, Totals] = field(default_factory=dict)
    violations: int = 0
    findings: list[Finding] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)
    events: int | None = None
    distinct_ids: int | None = None
    headers_read: int = 0
    unremembered: str | None = None

    def add(self, finding: Finding) -> None:
        """Counts it, and keeps the first ones."""
        self.violations += 1
        self.kinds[finding.kind] += 1
        if len(self.findings) < _KEPT:
            self.findings.append(finding)

    def facts(self) -> dict[str, Any]:
        """For scripts."""
        return {
            "topic": self.topic,
            "deep": self.deep,
            "batches": self.batches,
            "partitions": {str(p): totals.facts() for p, totals in sorted(self.partitions.items())},
            "events": self.events,
            "distinct_ids": self.distinct_ids,
            "headers_read": self.headers_read,
            "violations": self.violations,
            "kinds": dict(self.kinds),
            "findings": [finding.facts() for finding in self.findings],
        }


def audit(
    fs: Hdfs, layout: Layout, deep: bool = False, progress: Progress = lambda files: None, fresh: bool = False
) -> Audit:
    """Looks at all of a topic's history; memory does not grow with it, but for the id files of `deep`, on disk.

    `progress` is called with 1 for each file. Raises BatchError where there is none: nothing proves nothing.
    """
    if not fs.exists(layout.topic_root) and batches.newest(fs, layout) is None:
        raise BatchError(f"{layout.topic_root} does not exist, and topic {layout.topic} has no cut: nothing to audit")
    found = Audit(layout.topic, deep)
    begins = batches.begins(fs, layout)
    with ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(READERS))
        ids = stack.enter_context(DistinctIds()) if deep else None
        memory = None if deep else Memory(fs, layout, stack.enter_context(ThreadPoolExecutor(READERS)), fresh)
        reader = memory or anew(fs)
        walks = {}
        for p in partitions(fs, layout.topic_root):
            auditor = Auditor(fs, layout, p, begins.offsets.get(p, 0), found.add, ids)
            found.partitions[p] = auditor.totals
            walks[p] = _checked(auditor, walk(fs, layout, p, pool, reader, auditor.begin, auditor.look), progress)
        _batches(fs, layout, begins, Sweep(walks), found)
        found.headers_read = sum(totals.files for totals in found.partitions.values())
        if ids is not None:
            found.events, found.distinct_ids = ids.events, ids.distinct()
        if memory is not None:
            found.headers_read, found.unremembered = memory.read, memory.failed
    return found


def _checked(auditor: Auditor, files: Iterator[Landed], progress: Progress) -> Iterator[Landed]:
    """The partition's files, each looked at before it is counted; only those whose header can be believed."""
    for landed in files:
        progress(1)
        if auditor.check(landed):
            yield landed


def _batches(fs: Hdfs, layout: Layout, begins: Begins, sweep: Sweep, found: Audit) -> None:
    """Follows the chain of cuts beside the files; then reads the files that come after the last one."""
    chain = Chain(fs, layout, found.add)
    names = {name.removesuffix(".json") for name in fs.names(layout.ledger)}
    last: Cut | None = None
    try:
        for cut in batches.all(fs, layout):
            if last is not None:
                chain.named(last)
            chain.follow(last, cut)
            found.batches += 1
            if cut.number > begins.number:
                stored = ledger.recorded(fs, layout, cut.name) if cut.name in names else None
                _compare(layout, stored, sweep.take(cut), found.add)
            last = cut
    except BatchError as error:
        found.add(Finding("chain", str(error), (f"{layout.cuts}/chain",)))
    sweep.rest()


def _compare(layout: Layout, stored: BatchLedger | None, counted: BatchLedger, add: Callable[[Finding], None]) -> None:
    """A ledger that says complete says what the files say, but for their number, which compaction changes."""
    if stored is None or not stored.landed_complete:
        return
    terms = ("start", "end", "landed", "quarantined", "explained", "lost")
    of = {row.partition: row for row in counted.partitions}
    for row in stored.partitions:
        now = of.get(row.partition)
        wrong = [t for t in terms if now is None or getattr(now, t) != getattr(row, t)]
        if wrong:
            said = ", ".join(f"{t} {getattr(row, t)} but {getattr(now, t, None)}" for t in wrong)
            text = f"batch {stored.name}, p={row.partition}: the ledger says complete, but differs from files: {said}"
            add(Finding("ledger", text, (ledger.path(layout, stored.name),)))


class Chain:
    """The cuts in their order: each begins where the one before it ended."""

    def __init__(self, fs: Hdfs, layout: Layout, add: Callable[[Finding], None]) -> None:
        self._fs, self._layout, self._add = fs, layout, add
        self._files = set(fs.names(layout.cuts))

    def follow(self, last: Cut | None, cut: Cut) -> None:
        number, ends = (last.number, last.ends) if last is not None else (0, {})
        wrong = []
        if cut.number != number + 1:
            wrong.append(f"it is number {cut.number} after {number}")
        if cut.topic != self._layout.topic:
            wrong.append(f"its topic is {cut.topic}")
        if cut.starts.keys() != cut.ends.keys() or not ends.keys() <= cut.ends.keys():
            wrong.append(f"its partitions are {sorted(cut.starts)} to {sorted(cut.ends)} after {sorted(ends)}")
        for p, start in sorted(cut.starts.items()):
            if start != ends.get(p, 0) or cut.ends.get(p, start) < start:
                wrong.append(f"p={p} goes from {start} to {cut.ends.get(p)} after {ends.get(p, 0)}")
        if wrong:
            file = batches.link_path(self._layout, cut.number)
            self._add(Finding("chain", f"cut {cut.name}: {'; '.join(wrong)}", (file,)))

    def named(self, cut: Cut) -> None:
        """Every cut but the newest can be found by its name, with the same content."""
        file = batches.name_path(self._layout, cut.name)
        try:
            same = f"{cut.name}.json" in self._files and Cut.from_json(self._fs.read(file)) == cut
        except (BatchError, StorageError, FileNotFoundError):
            same = False
        if not same:
            self._add(Finding("chain", f"cut {cut.name} is not what its file by name says", (file,)))
