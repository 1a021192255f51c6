"""What an orchestrator asks of the batches: where one ends, what is to be done, whether a gate is open.

Each question opens HDFS anew, since each is asked by another process.
"""

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
from storage import batches, exports, ledger
from storage.batches import Cut
from storage.errors import BatchError, GateClosed
from storage.hdfs import Hdfs
from storage.layout import Layout, quality_report
from storage.ledger import BatchLedger


class Gates:
    """The batches of one platform."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._fs, self._layout = Hdfs(settings), Layout(settings.hdfs.root, settings.kafka.topic)

    def take(self, name: str, moment: datetime | None = None) -> Cut:
        """The cut of that name; one that does not exist is taken now, or where the partitions ended at `moment`."""
        topic = self._layout.topic
        return batches.take(self._fs, self._layout, name, lambda: end_offsets(self._settings, topic, moment), moment)

    def landing(self, name: str) -> BatchLedger:
        """The batch's ledger as of now; it is recorded as soon as the landing gate is open."""
        return ledger.look(self._fs, self._layout, batches.get(self._fs, self._layout, name))

    def to_curate(self, name: str) -> list[str]:
        """The batches before this one that were never curated, were refused or have no sessions, in their order; and
        this one, finished or not."""
        cut = batches.get(self._fs, self._layout, name)
        found = [name]
        while (earlier := batches.before(self._fs, self._layout, cut)) is not None:
            if ledger.finished(self._fs, self._layout, earlier.name):
                break  # and so is all before it
            found.insert(0, earlier.name)
            cut = earlier
        return found

    def between(self, since: datetime, until: datetime) -> list[str]:
        """The batches whose cut was taken after `since` and not after `until`, in their order, as far as they have
        landed."""
        cuts = batches.all(self._fs, self._layout)
        chosen = [cut for cut in cuts if since < datetime.fromisoformat(cut.taken_at) <= until]
        return [cut.name for cut in chosen if ledger.look(self._fs, self._layout, cut).landed_complete]

    def newest_curated(self) -> str:
        """The newest batch that is through the publish gate. Raises BatchError where there is none."""
        return ledger.newest_curated(self._fs, self._layout).name

    def check_published(self, name: str) -> BatchLedger:
        """The batch's ledger. Raises GateClosed unless landed = curated + duplicates + invalid in each partition."""
        found = ledger.read(self._fs, self._layout, batches.get(self._fs, self._layout, name))
        if not found.published_balanced:
            sums = {p.partition: (p.landed, p.curated, p.duplicates, p.invalid) for p in found.partitions}
            raise GateClosed(
                name, f"of some partition landed is not curated + duplicates + invalid: {sums}, missing {found.missing}"
            )
        return found

    def check_quality(self, name: str, tables: Sequence[str]) -> None:
        """Raises GateClosed with what the checks of these tables found wrong with the batch, if anything."""
        number = batches.get(self._fs, self._layout, name).number
        wrong = {}
        for table in tables:
            with suppress(FileNotFoundError):
                report = json.loads(self._fs.read(quality_report(self._settings.hdfs.root, table, number)))
                wrong[table] = [finding["check"] for finding in report["findings"]]
        if wrong:
            raise GateClosed(name, f"quality: {wrong}; the rows are in {self._settings.hdfs.root}/quality")

    def shown(self) -> dict[str, Any]:
        """The facts of the recommendations in force, with their `version`. Raises BatchError before the first."""
        found = exports.read_report(self._fs, self._settings.hdfs.root)
        if found is None:
            raise BatchError("nothing was ever exported; the DAG clickstream_train exports recommendations")
        return found

    def wait_until_served(self, patience: float = 60.0) -> str:
        """The version in force, once the running web app serves it. Raises ServiceError after `patience` seconds."""
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
