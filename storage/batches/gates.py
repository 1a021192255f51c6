"""The orchestrator's view of batches: their cuts, those to curate, and their gates."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any

from infra.errors import ServiceError
from infra.settings import Settings
from infra.topics import end_offsets
from storage import exports
from storage.batches import cuts, ledger
from storage.batches.cuts import Cut
from storage.batches.ledger import BatchLedger
from storage.errors import BatchError, GateClosed
from storage.hdfs import Hdfs
from storage.layout import Layout, quality_report


class Gates:
    """Questions about the batches of one platform."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._fs, self._layout = Hdfs(settings), Layout(settings.hdfs.root, settings.kafka.topic)

    def take(self, name: str, moment: datetime | None = None) -> Cut:
        """The cut of that name; a new one is taken now, or at the end offsets of a past `moment`."""
        topic = self._layout.topic
        return cuts.take(self._fs, self._layout, name, lambda: end_offsets(self._settings, topic, moment), moment)

    def current_ledger(self, name: str) -> BatchLedger:
        """The batch's ledger as of now, stored as soon as the landing gate is open."""
        return ledger.refresh(self._fs, self._layout, cuts.get(self._fs, self._layout, name))

    def to_curate(self, name: str) -> list[str]:
        """The earlier batches that are not curated or have no sessions yet, in order, and then this one in any case."""
        cut = cuts.get(self._fs, self._layout, name)
        found = [name]
        while (earlier := cuts.before(self._fs, self._layout, cut)) is not None:
            if ledger.finished(self._fs, self._layout, earlier.name):
                break  # and so are all before it
            found.insert(0, earlier.name)
            cut = earlier
        return found

    def between(self, since: datetime, until: datetime) -> list[str]:
        """The batches that have landed and whose cut was taken after `since` and not after `until`, in order."""
        every = cuts.all_cuts(self._fs, self._layout)
        chosen = [cut for cut in every if since < datetime.fromisoformat(cut.taken_at) <= until]
        return [cut.name for cut in chosen if ledger.refresh(self._fs, self._layout, cut).landed_complete]

    def newest_curated(self) -> str:
        """The newest batch whose publish gate is open. Raises BatchError if there is none."""
        return ledger.newest_curated(self._fs, self._layout).name

    def check_published(self, name: str) -> BatchLedger:
        """The batch's ledger. Raises GateClosed unless landed = curated + duplicates + invalid in each partition."""
        found = ledger.load(self._fs, self._layout, cuts.get(self._fs, self._layout, name))
        if not found.published_balanced:
            sums = {p.partition: (p.landed, p.curated, p.duplicates, p.invalid) for p in found.partitions}
            raise GateClosed(
                name, f"of some partition landed is not curated + duplicates + invalid: {sums}, missing {found.missing}"
            )
        return found

    def check_quality(self, name: str, tables: Sequence[str]) -> None:
        """Raises GateClosed with the quality findings of these tables in the batch, if there are any."""
        number = cuts.get(self._fs, self._layout, name).number
        wrong = {}
        for table in tables:
            with suppress(FileNotFoundError):
                report = json.loads(self._fs.read(quality_report(self._settings.hdfs.root, table, number)))
                wrong[table] = [finding["check"] for finding in report["findings"]]
        if wrong:
            raise GateClosed(name, f"quality: {wrong}; the rows are in {self._settings.hdfs.root}/quality")

    def shown(self) -> dict[str, Any]:
        """The facts of the current recommendations, with their `version`. Raises BatchError if there are none yet."""
        found = exports.read_report(self._fs, self._settings.hdfs.root)
        if found is None:
            raise BatchError("nothing was ever exported; the DAG clickstream_train exports recommendations")
        return found

    def wait_until_served(self, patience: float = 60.0) -> str:
        """The current version, once the web app serves it. Raises ServiceError after `patience` seconds."""
        import requests

        wanted, url = self.shown()["version"], f"{self._settings.webapp.address}/health"
        deadline, told = time.monotonic() + patience, None
        while time.monotonic() < deadline:
            try:
                told = requests.get(url, timeout=5).json()
                if told["version"] == wanted:
                    return str(wanted)
            except (requests.RequestException, ValueError, LookupError, TypeError) as error:
                told = repr(error)
            time.sleep(1)
        what = f"{url} (CLICKSTREAM_WEBAPP__URL) does not serve {wanted} after {patience:.0f} s: {told}"
        raise ServiceError("webapp", what)
