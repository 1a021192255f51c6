"""Deletes what is past its time, joins small data files of all tables, and deletes files that no snapshot knows.

Batches of features and lists go after processing.copy_days; models, MLflow's versions and runs, and exports after
processing.model_days, but for what is in force and what a rollback goes back to. Of tables that keep all batches no row
changes. Snapshots older than processing.snapshot_days go, but for the newest of each table and those that champions and
models of the last processing.copy_days learnt from, which have a tag. Orphans, left by writers that died, go after
three days. `--batch` names the newest batch, from which age is counted.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from processing.runtime import job
from processing.runtime.job import Job
from processing.tables import iceberg, maintenance, schemas
from processing.training import retention


def work(this: Job) -> dict[str, Any]:
    """What went with age, sums over all tables that exist, and the number of those."""
    now, sums = datetime.now(UTC), Counter[str]()
    gone = retention.apply(this)
    for table in schemas.ALL:
        if this.spark.catalog.tableExists(table.full_name):
            iceberg.create(this.spark, table)
            sums.update({"tables": 1})
            sums.update(maintenance.compact(this.spark, table))
            sums.update(
                maintenance.expire(this.spark, table, now - timedelta(days=this.settings.processing.snapshot_days))
            )
            orphaned = now - timedelta(days=retention.ORPHAN_DAYS)
            sums.update(maintenance.remove_orphans(this.spark, table, orphaned))
    return {**sums, "gone": gone}


def main(argv: Sequence[str] | None = None) -> int:
    return job.run("maintain_tables", __doc__ or "", work, argv, job.any_batch)


if __name__ == "__main__":
    sys.exit(main())
