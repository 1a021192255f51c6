"""Curates the landed records of a batch: validates, deduplicates, and proves that none is lost.

Reads the batch's files from HDFS. Writes its rows of the tables events (valid, first of their event_id), duplicates
(with their winner) and invalid (with the reason), then counts each in what it wrote, records the counts in the ledger
and fails unless landed = curated + duplicates + invalid for every partition. Look-back: processing.dedup_days.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import reduce
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from processing import curate, features, job, raw, tables
from processing.errors import UnbalancedBatch
from processing.job import Job
from processing.tables import DUPLICATES, EVENTS, INVALID
from storage import batches, ledger

OUTCOMES = (EVENTS, DUPLICATES, INVALID)  # in the order of the ledger's counts


def work(this: Job) -> dict[str, Any]:
    """Curates, then counts what was written."""
    for table in OUTCOMES:
        tables.create(this.spark, table)
    files = batches.files(this.fs, this.layout, this.cut)
    rows = raw.read(this.spark, [this.url(file.path) for file in files], this.cut.starts, this.cut.ends)
    before = tables.read(this.spark, EVENTS).filter(F.col("batch") < this.batch)
    classified = curate.classify(rows, before.filter(F.col("batch").isin(look_back(this))), this.batch).persist()
    newest = features.newest(before) if this.batch > 1 else None
    this.overwrite(EVENTS, curate.curated(classified, newest, this.gap))
    this.overwrite(DUPLICATES, curate.duplicates(classified))
    this.overwrite(INVALID, curate.invalid(classified))
    counts = count(this)
    late = this.read_batch(EVENTS).filter("late").count() if newest else 0
    return check(this, counts) | {"late": late}


def look_back(this: Job) -> list[int]:
    """Numbers of the earlier batches whose cut was taken within dedup_days before this one's: the same at any rerun."""
    since = datetime.fromisoformat(this.cut.taken_at) - timedelta(days=this.settings.processing.dedup_days)
    earlier = (cut for cut in batches.all(this.fs, this.layout) if cut.number < this.batch)
    return [cut.number for cut in earlier if datetime.fromisoformat(cut.taken_at) >= since]


def count(this: Job) -> dict[int, tuple[int, int, int]]:
    """partition -> (curated, duplicates, invalid), each counted in its own table."""

    def of(table: tables.Table) -> DataFrame:
        return this.read_batch(table).select("partition", F.lit(table.name).alias("table"))

    rows = reduce(DataFrame.unionByName, map(of, OUTCOMES)).groupBy("partition", "table").count().collect()
    found = {(row["partition"], row["table"]): row["count"] for row in rows}
    partitions = sorted({*this.cut.ends, *(partition for partition, _ in found)})
    return {
        p: (found.get((p, "events"), 0), found.get((p, "duplicates"), 0), found.get((p, "invalid"), 0))
        for p in partitions
    }


def check(this: Job, counts: dict[int, tuple[int, int, int]]) -> dict[str, Any]:
    """Records the publish gate and gives its sums. Raises UnbalancedBatch when it does not balance."""
    recorded = ledger.record_publish(this.fs, this.layout, this.cut, counts)
    wrong = {row.partition: (row.landed, *counts[row.partition]) for row in recorded.partitions if row.unpublished}
    if wrong:
        raise UnbalancedBatch(this.cut.name, wrong)
    return {name: recorded.total(name) for name in ("landed", "curated", "duplicates", "invalid")}


def main(argv: Sequence[str] | None = None) -> int:
    return job.run("curate_events", __doc__ or "", work, argv)


if __name__ == "__main__":
    sys.exit(main())
