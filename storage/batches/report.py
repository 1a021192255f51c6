"""One batch in numbers: its ledger's sums, and those of the newest export."""

from __future__ import annotations

from typing import Any

from storage import exports
from storage.batches.ledger import BatchLedger
from storage.hdfs import Hdfs

_LEDGER = ("appended", "landed", "quarantined", "landed_files", "curated", "duplicates", "invalid")
_LEARNT = ("sessions", "visitors", "items", "model", "recommendations")


def facts(fs: Hdfs, root: str, ledger: BatchLedger) -> dict[str, Any]:
    """The ledger's sums, then those of the newest export (None before the first); `export` is its version."""
    counted = ledger.facts()
    learnt = exports.read_report(fs, root) or {}
    return {
        "batch": ledger.name,
        **{name: counted[name] for name in _LEDGER},
        **{name: learnt.get(name) for name in _LEARNT},
        "export": learnt.get("version"),
    }
