"""Audits a topic: proves from names, headers and records that each offset of all history is on HDFS exactly once.

A plain audit uses cached headers (storage/batches/header_cache.py), which are valid while a file keeps its name, length
and time of modification. So it proves that the files are still there, unchanged, and together account for each offset;
it does not prove that their blocks can still be read. A fresh audit reads every header from its file, a deep one every
record.

Violations are:

- visible files of a partition that overlap, leave a hole, do not begin where raw begins, or whose name, folder and
  header differ; a header whose records, quarantined spans and gaps do not account for each offset of its range;
- an offset that a header calls quarantined, but that no file under quarantine/ within the same range holds, unless
  the retention of quarantine has taken it;
- a batch whose ledger is complete but differs from the files; a broken chain of cuts;
- an offset that is visible as lost, or not at all, while a complete file of some epoch holds it: it should have been
  published;
- in a deep audit, a record that does not decode by the schema in its file, or is not the next that its header states.

What a crash leaves behind is no violation: a file in the folder of an epoch, live or fenced, whose offsets are beyond
the last visible one or were landed by a successor; a temporary file of compaction; a quarantine file whose raw file
never appeared; the last cut without its file by name. Files in epochs are counted as remainders. Event ids that appear
more than once are counted, too: curation removes them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from storage.audit.distinct_ids import DistinctIds
from storage.audit.partition import Finding, PartitionAuditor, Totals
from storage.batches import cuts, ledger
from storage.batches.cuts import Cut, TreeStart
from storage.batches.header_cache import HeaderCache, uncached
from storage.batches.history import READERS, BatchSplitter, LandedFile, walk
from storage.batches.ledger import BatchLedger
from storage.errors import BatchError, StorageError
from storage.hdfs import Hdfs
from storage.landed import partitions
from storage.layout import Layout

_LISTED = 100  # violations that are listed one by one
Progress = Callable[[int], None]


@dataclass(slots=True)
class Audit:
    """The result of an audit. `events` and `distinct_ids` are None unless it was deep.

    `headers_read`: number of headers that were read from their files; `uncached_reason`: why they could not be cached,
    if so.
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
    uncached_reason: str | None = None

    def add(self, finding: Finding) -> None:
        """Counts a violation; the first ones are listed."""
        self.violations += 1
        self.kinds[finding.kind] += 1
        if len(self.findings) < _LISTED:
            self.findings.append(finding)

    def facts(self) -> dict[str, Any]:
        """The same for scripts."""
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
    """Audits all of a topic's history in constant memory; a deep audit keeps ids of events on disk.

    `progress` is called with 1 for each file. Raises BatchError if the topic has neither files nor cuts.
    """
    if not fs.exists(layout.topic_root) and cuts.newest(fs, layout) is None:
        raise BatchError(f"{layout.topic_root} does not exist, and topic {layout.topic} has no cut: nothing to audit")
    found = Audit(layout.topic, deep)
    tree_start = cuts.tree_start(fs, layout)
    with ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(READERS))
        ids = stack.enter_context(DistinctIds()) if deep else None
        cache = None if deep else HeaderCache(fs, layout, stack.enter_context(ThreadPoolExecutor(READERS)), fresh)
        reader = cache or uncached(fs)
        walks = {}
        for p in partitions(fs, layout.topic_root):
            auditor = PartitionAuditor(fs, layout, p, tree_start.offsets.get(p, 0), found.add, ids)
            found.partitions[p] = auditor.totals
            walks[p] = _checked(
                auditor, walk(fs, layout, p, pool, reader, auditor.begin, auditor.check_names), progress
            )
        _check_batches(fs, layout, tree_start, BatchSplitter(walks), found)
        found.headers_read = sum(totals.files for totals in found.partitions.values())
        if ids is not None:
            found.events, found.distinct_ids = ids.events, ids.distinct()
        if cache is not None:
            found.headers_read, found.uncached_reason = cache.read, cache.failed
    return found


def _checked(auditor: PartitionAuditor, files: Iterator[LandedFile], progress: Progress) -> Iterator[LandedFile]:
    """The partition's files whose header has no violation."""
    for landed in files:
        progress(1)
        if auditor.check(landed):
            yield landed


def _check_batches(fs: Hdfs, layout: Layout, tree_start: TreeStart, splitter: BatchSplitter, found: Audit) -> None:
    """Checks the chain of cuts, and each batch's ledger against its files; then the files after the last cut."""
    chain = ChainAuditor(fs, layout, found.add)
    names = {name.removesuffix(".json") for name in fs.names(layout.ledger)}
    last: Cut | None = None
    try:
        for cut in cuts.all_cuts(fs, layout):
            if last is not None:
                chain.check_name(last)
            chain.check_link(last, cut)
            found.batches += 1
            if cut.number > tree_start.number:
                stored = ledger.load_or_none(fs, layout, cut.name) if cut.name in names else None
                _compare(layout, stored, splitter.take(cut), found.add)
            last = cut
    except BatchError as error:
        found.add(Finding("chain", str(error), (f"{layout.cuts}/chain",)))
    splitter.drain()


def _compare(layout: Layout, stored: BatchLedger | None, counted: BatchLedger, add: Callable[[Finding], None]) -> None:
    """Checks that a complete ledger agrees with the files, except in their number, which compaction changes."""
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


class ChainAuditor:
    """Checks the chain of cuts: each begins where the one before it ended."""

    def __init__(self, fs: Hdfs, layout: Layout, add: Callable[[Finding], None]) -> None:
        self._fs, self._layout, self._add = fs, layout, add
        self._files = set(fs.names(layout.cuts))

    def check_link(self, last: Cut | None, cut: Cut) -> None:
        """Checks a cut against the one before it."""
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
            file = cuts.link_path(self._layout, cut.number)
            self._add(Finding("chain", f"cut {cut.name}: {'; '.join(wrong)}", (file,)))

    def check_name(self, cut: Cut) -> None:
        """Checks that the cut's file by name has the same content; the newest cut may lack that file."""
        file = cuts.name_path(self._layout, cut.name)
        try:
            same = f"{cut.name}.json" in self._files and Cut.from_json(self._fs.read(file)) == cut
        except (BatchError, StorageError, FileNotFoundError):
            same = False
        if not same:
            self._add(Finding("chain", f"cut {cut.name} is not what its file by name says", (file,)))
