"""Joins small data files of all tables, forgets old snapshots, and deletes files that no snapshot knows.

No row changes. Snapshots older than processing.snapshot_days go, but for the newest of each table and those that a
model was trained on, which have a tag. Orphans, left by writers that died, go after three days. `--batch` names the
newest batch: it only tells this run from others.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from processing import job, tables, upkeep
from processing.job import Job

_ORPHAN_DAYS = 3


def work(this: Job) -> dict[str, Any]:
    """Sums over all tables that exist, and the number of those."""
    now, sums = datetime.now(UTC), Counter[str]()
    for table in tables.ALL:
        if this.spark.catalog.tableExists(table.full_name):
            sums.update({"tables": 1})
            sums.update(upkeep.compact(this.spark, table))
            sums.update(upkeep.expire(this.spark, table, now - timedelta(days=this.settings.processing.snapshot_days)))
            sums.update(upkeep.remove_orphans(this.spark, table, now - timedelta(days=_ORPHAN_DAYS)))
    return dict(sums)


def main(argv: Sequence[str] | None = None) -> int:
    return job.run("maintain_tables", __doc__ or "", work, argv, job.any_batch)


if __name__ == "__main__":
    sys.exit(main())
