"""The export that the shop serves: polled in the background, loaded whole, replaced by one assignment.

    reader = HdfsExports(settings)               # webapp/exports.py; a fake in tests
    store = RecommendationStore(reader)
    store.refresh()                              # one look; or store.start(seconds) for a thread that keeps looking
    store.snapshot                               # a Snapshot, or None before the first export

A request takes `store.snapshot` once and works with that, so it never sees half of one version and half of another.
"""

from __future__ import annotations

import threading
from typing import Literal, Protocol

import structlog

from webapp.metrics import Metrics
from webapp.snapshot import Export, Snapshot, build_snapshot

log = structlog.get_logger(__name__)
RefreshResult = Literal["loaded", "unchanged", "absent", "failed"]


class ExportReader(Protocol):
    """Reads exports. Either method may raise any exception: the store then keeps its snapshot."""

    def current_version(self) -> str | None:
        """The version that CURRENT names; None before the first export."""
        ...

    def load(self, version: str) -> Export:
        """All tables of a version."""
        ...


class RecommendationStore:
    """Holds the current snapshot. `error`: why the last refresh failed, None if it succeeded."""

    def __init__(self, reader: ExportReader, metrics: Metrics | None = None) -> None:
        self.metrics = metrics or Metrics()
        self.snapshot: Snapshot | None = None
        self.error: str | None = None
        self._reader = reader
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def refresh(self) -> RefreshResult:
        """Loads the current version if it is new. A failure is logged once per reason, counted, and changes nothing."""
        try:
            outcome = self._refresh()
            self.error = None
        except Exception as error:  # whatever failed, the shop goes on with what it has
            outcome, reason = "failed", f"{type(error).__name__}: {error}"
            if reason != self.error:
                log.warning("export_refresh_failed", error=reason, in_service=self._version)
            self.error = reason
        self.metrics.refreshes.labels(outcome).inc()
        return outcome

    def start(self, seconds: float) -> None:
        """Refreshes at once and every `seconds`, in a thread, until stop()."""
        self._thread = threading.Thread(target=self._run, args=(seconds,), name="export-refresh", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread; returns when it has ended."""
        self._stop.set()
        if self._thread:
            self._thread.join()

    @property
    def _version(self) -> str | None:
        return self.snapshot.version if self.snapshot else None

    def _refresh(self) -> RefreshResult:
        version = self._reader.current_version()
        if version is None:
            return "absent"
        if version == self._version:
            return "unchanged"
        snapshot = build_snapshot(version, self._reader.load(version))
        self.snapshot = snapshot
        self.metrics.items.set(len(snapshot.items))
        self.metrics.visitors.set(len(snapshot.for_visitors))
        self.metrics.loaded_at.set_to_current_time()
        log.info("export_loaded", version=version, items=len(snapshot.items), visitors=len(snapshot.for_visitors))
        return "loaded"

    def _run(self, seconds: float) -> None:
        self.refresh()
        while not self._stop.wait(seconds):
            self.refresh()
