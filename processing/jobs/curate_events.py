"""Curates the landed records of a batch: validates, deduplicates, and proves that none is lost.

Reads the batch's files from HDFS. Writes its rows of the tables events (valid, first of their event_id), duplicates
(with their winner, and whether it says the same) and invalid (with the reason), then counts each in what it wrote,
records the counts in the ledger and fails unless landed = curated + duplicates + invalid for every partition. Batches
are curated in their order: one whose predecessor is not curated is refused. Look-back: processing.dedup_days.

Late events, those a session gap older than the newest event of earlier batches, are counted by how late they are;
`conflicting` are duplicates that say something else than their winner.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import partial, reduce
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from processing import curate, features, iceberg, job, quality, raw
from processing.errors import NotLanded, OutOfOrder, UnbalancedBatch
from processing.iceberg import Table
from processing.job import Job
from processing.quality import Finding
from processing.tables import DUPLICATES, EVENTS, INVALID
from storage import batches, ledger
from storage.batches import Cut
from storage.hdfs import Hdfs
from storage.layout import Layout

OUTCOMES = (EVENTS, DUPLICATES, INVALID)  # in the order of the ledger's counts


def work(this: Job) -> dict[str, Any]:
    """Curates, then counts what was written."""
    for table in OUTCOMES:
        iceberg.create(this.spark, table)
    files = batches.files(this.fs, this.layout, this.cut)
    rows = raw.read(this.spark, [this.url(file.path) for file in files], this.cut.starts, this.cut.ends)
    before = iceberg.read(this.spark, EVENTS).filter(F.col("batch") < this.batch)
    # Not persisted: writing events makes Spark forget whatever was read of them, and a copy of all rows is large.
    classified = curate.classify(rows, before.filter(F.col("batch").isin(look_back(this))), this.batch)
    newest = features.newest(before) if this.batch > 1 else None
    this.overwrite(EVENTS, curate.curated(classified, newest, this.gap), partial(check_arrivals, this, before))
    this.overwrite(DUPLICATES, curate.duplicates(classified))
    this.overwrite(INVALID, curate.invalid(classified))
    conflicting = this.read_batch(DUPLICATES).filter(~F.col("same_payload")).count()
    return check_gate(this, count(this)) | {"conflicting": conflicting} | late(this)


def ready(fs: Hdfs, layout: Layout, cut: Cut) -> None:
    """Raises NotLanded, or OutOfOrder: which of two equal events came first can only be told when all before are
    there."""
    earlier = batches.before(fs, layout, cut)
    if earlier and not ledger.balanced(fs, layout, earlier.name):
        raise OutOfOrder(cut.name, earlier.name)
    if missing := ledger.look(fs, layout, cut).missing:
        raise NotLanded(cut.name, missing)


def check_arrivals(this: Job, before: DataFrame, written: DataFrame, table: Table) -> list[Finding]:
    """The table's rules, and whether as much arrived as in the weeks before, and lately."""
    rules, taken_at = this.settings.processing, datetime.fromisoformat(this.cut.taken_at)
    count, newest = written.agg(F.count("*"), F.unix_millis(F.max("appended_at"))).collect()[0]
    appended = None if newest is None else features.from_millis(newest)
    findings = quality.rows(written, table) + quality.freshness(appended, taken_at, rules.freshness_hours)
    earlier = batches.before(this.fs, this.layout, this.cut)
    if earlier is None:
        return findings
    first = datetime.fromisoformat(next(batches.all(this.fs, this.layout)).taken_at)
    usual = quality.usual_volume(before, datetime.fromisoformat(earlier.taken_at), taken_at, first)
    return findings + quality.volume(count, usual, rules.volume_factor)


def late(this: Job) -> dict[str, Any]:
    """How many events came late, and by how much."""
    bounds = {"under_1_hour": 3_600, "under_1_day": 86_400, "under_7_days": 7 * 86_400}
    seconds, counts, least = F.col("lateness_seconds"), [], 0
    for name, most in [*bounds.items(), ("more", 2**62)]:
        counts.append(F.count_if((seconds >= least) & (seconds < most)).alias(name))
        least = most
    [found] = this.read_batch(EVENTS).agg(*counts).collect()
    by = found.asDict()
    return {"late": sum(by.values()), "late_by": by}


def look_back(this: Job) -> list[int]:
    """Numbers of the earlier batches whose cut was taken within dedup_days before this one's: the same at any rerun."""
    since = datetime.fromisoformat(this.cut.taken_at) - timedelta(days=this.settings.processing.dedup_days)
    return [cut.number for cut in batches.since(this.fs, this.layout, since) if cut.number < this.batch]


def count(this: Job) -> dict[int, tuple[int, int, int]]:
    """partition -> (curated, duplicates, invalid), each counted in its own table."""

    def of(table: Table) -> DataFrame:
        return this.read_batch(table).select("partition", F.lit(table.name).alias("table"))

    rows = reduce(DataFrame.unionByName, map(of, OUTCOMES)).groupBy("partition", "table").count().collect()
    found = {(row["partition"], row["table"]): row["count"] for row in rows}
    partitions = sorted({*this.cut.ends, *(partition for partition, _ in found)})
    return {
        p: (found.get((p, "events"), 0), found.get((p, "duplicates"), 0), found.get((p, "invalid"), 0))
        for p in partitions
    }


def check_gate(this: Job, counts: dict[int, tuple[int, int, int]]) -> dict[str, Any]:
    """Records the publish gate and gives its sums. Raises UnbalancedBatch when it does not balance."""
    recorded = ledger.record_publish(this.fs, this.layout, this.cut, counts)
    wrong = {row.partition: (row.landed, *counts[row.partition]) for row in recorded.partitions if row.unpublished}
    if wrong:
        raise UnbalancedBatch(this.cut.name, wrong)
    return {name: recorded.total(name) for name in ("landed", "curated", "duplicates", "invalid")}


def main(argv: Sequence[str] | None = None) -> int:
    return job.run("curate_events", __doc__ or "", work, argv, ready)


if __name__ == "__main__":
    sys.exit(main())
