"""Compaction on a file system in memory: what its tests share."""

from __future__ import annotations

from typing import Any

from infra.settings.jobs import Compaction
from storage.batches import cuts, ledger
from storage.layout import Layout
from storage.upkeep.compaction import Compacted, compact
from tests.fakes import FakeHdfs
from tests.support.landing import UNREADABLE, Lander

LAYOUT = Layout("/root", "clicks")
RULES = Compaction(min_files=2, grace_seconds=60)


def run(fs: FakeHdfs, now: float = 0.0, dry_run: bool = False, **rules: Any) -> Compacted:
    return compact(fs, LAYOUT, RULES.model_copy(update=rules), "zstandard", lambda: now, dry_run)


def cut(fs: FakeHdfs, name: str, **ends: int) -> cuts.Cut:
    taken = cuts.take(fs, LAYOUT, name, lambda: {int(p[1:]): end for p, end in ends.items()})
    ledger.record_landing(fs, LAYOUT, ledger.current(fs, LAYOUT, taken))
    return taken


def three_files(fs: FakeHdfs) -> None:
    """Ten events each, one quarantined in the first, a hole in the second; one cut at their end."""
    lander = Lander(fs, LAYOUT)
    lander.events(9).values(UNREADABLE).file()
    lander.events(4).gap(6).file()
    lander.events(10).file()
    cut(fs, "one", p0=30)
