"""Checks and counts of a batch that is being curated: is it complete, what arrived, what came late."""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import reduce
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from processing.errors import NotLanded, OutOfOrder, UnbalancedBatch
from processing.events import placeholder_ids
from processing.runtime.job import Job
from processing.tables import event_times, quality
from processing.tables.iceberg import Table
from processing.tables.quality import Finding
from processing.tables.schemas import DUPLICATES, EVENTS, INVALID
from storage.batches import cuts, ledger
from storage.batches.cuts import Cut
from storage.hdfs import Hdfs
from storage.layout import Layout

TABLES = (EVENTS, DUPLICATES, INVALID)  # in the order of the ledger's counts


def ready(fs: Hdfs, layout: Layout, cut: Cut) -> None:
    """Raises NotLanded, or OutOfOrder: which of two equal events came first can only be told when all before are
    there."""
    earlier = cuts.before(fs, layout, cut)
    if earlier and not ledger.balanced(fs, layout, earlier.name):
        raise OutOfOrder(cut.name, earlier.name)
    if missing := ledger.refresh(fs, layout, cut).missing:
        raise NotLanded(cut.name, missing)


def check_arrivals(this: Job, before: DataFrame, written: DataFrame, table: Table) -> list[Finding]:
    """The table's rules, and whether as much arrived as in the weeks before, and lately."""
    rules, taken_at = this.settings.processing, datetime.fromisoformat(this.cut.taken_at)
    count, newest = written.agg(F.count("*"), F.unix_millis(F.max("appended_at"))).collect()[0]
    appended = None if newest is None else event_times.from_millis(newest)
    findings = quality.rows(written, table) + quality.freshness(appended, taken_at, rules.freshness_hours)
    earlier = cuts.before(this.fs, this.layout, this.cut)
    if earlier is None:
        return findings
    usual = quality.usual_volume(before, datetime.fromisoformat(earlier.taken_at), taken_at, this.began)
    return findings + quality.volume(count, usual, rules.volume_factor)


def told(this: Job) -> dict[str, Any]:
    """Counts of late events, by how late they are, and of those with a placeholder for an id."""
    bounds = {"under_1_hour": 3_600, "under_1_day": 86_400, "under_7_days": 7 * 86_400}
    seconds, counts, least = F.col("lateness_seconds"), [], 0
    for name, most in [*bounds.items(), ("more", 2**62)]:
        counts.append(F.count_if((seconds >= least) & (seconds < most)).alias(name))
        least = most
    placeholders = F.count_if(F.array_contains("flags", placeholder_ids.FLAG)).alias("placeholder_ids")
    [found] = this.read_batch(EVENTS).agg(*counts, placeholders).collect()
    by = {name: found[name] for name in (*bounds, "more")}
    return {"late": sum(by.values()), "late_by": by, "placeholder_ids": found["placeholder_ids"]}


def look_back(this: Job) -> list[int]:
    """Numbers of the earlier batches whose cut was taken within dedup_days before this one's: the same at any rerun."""
    since = datetime.fromisoformat(this.cut.taken_at) - timedelta(days=this.settings.processing.dedup_days)
    return [cut.number for cut in cuts.since(this.fs, this.layout, since) if cut.number < this.batch]


def count(this: Job) -> dict[int, tuple[int, int, int]]:
    """partition -> (curated, duplicates, invalid), each counted in its own table."""

    def of(table: Table) -> DataFrame:
        return this.read_batch(table).select("partition", F.lit(table.name).alias("table"))

    rows = reduce(DataFrame.unionByName, map(of, TABLES)).groupBy("partition", "table").count().collect()
    found = {(row["partition"], row["table"]): row["count"] for row in rows}
    partitions = sorted({*this.cut.ends, *(partition for partition, _ in found)})
    return {
        p: (found.get((p, "events"), 0), found.get((p, "duplicates"), 0), found.get((p, "invalid"), 0))
        for p in partitions
    }


def record_counts(this: Job, counts: dict[int, tuple[int, int, int]]) -> dict[str, Any]:
    """Records the publish gate and gives its sums. Raises UnbalancedBatch when it does not balance."""
    recorded = ledger.record_publish(this.fs, this.layout, this.cut, counts)
    wrong = {row.partition: (row.landed, *counts[row.partition]) for row in recorded.partitions if row.unpublished}
    if wrong:
        raise UnbalancedBatch(this.cut.name, wrong)
    return {name: recorded.total(name) for name in ("landed", "curated", "duplicates", "invalid")}
