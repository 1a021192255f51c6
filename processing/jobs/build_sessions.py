"""Brings the tables sessions and identities up to date with a batch: a session ends where a visitor pauses too long.

The sessions that the batch's events lie in or join are built anew from all their events and replace the old ones in one
commit: a late event may join two sessions, and a rerun changes nothing; what the batch does not touch is not read. Bots
have sessions too, marked is_bot; events of anonymous mode, which have no visitor, have none. identities tells when
which visitor was seen as which user; person_id is the session's own user, else as whom its visitor was last seen before
it ended, and follows what a late event tells. Gap: processing.session_gap_minutes; after a change of it run all batches
again.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from processing.events import identities, sessions
from processing.runtime import job
from processing.runtime.job import Job
from processing.tables import iceberg, partitions
from processing.tables.schemas import EVENTS, IDENTITIES, SESSIONS
from storage.batches import ledger

_COLUMNS = (
    *("batch", "event_id", "event_type", "occurred_at", "sequence", "visitor_id", "anonymous_id", "user_id"),
    *("item_id", "page", "campaign", "device"),
)


def work(this: Job) -> dict[str, Any]:
    """Builds and merges the links and the sessions that this batch changes."""
    for table in (SESSIONS, IDENTITIES):
        iceberg.create(this.spark, table)
    events = iceberg.read(this.spark, EVENTS).select(*_COLUMNS).filter(F.col("visitor_id").isNotNull())
    new = events.filter(F.col("batch") == this.batch).persist()
    current = iceberg.read(this.spark, SESSIONS)
    known = iceberg.read(this.spark, IDENTITIES).filter(partitions.condition(new, IDENTITIES).format(""))
    linked = this.settle(identities.news(identities.links(new, this.gap), known))
    spans = this.settle(sessions.spans(new, this.gap))
    touched = this.settle(sessions.affected(sessions.between(current, spans, this.gap), spans, this.gap))
    built = sessions.build(new.unionByName(others(this, events, touched)), this.gap)
    renamed = identities.told_of(current, linked)
    renamed = renamed.join(touched.select("session_id"), on="session_id", how="left_anti")
    renamed = renamed.withColumnRenamed("person_id", "was")
    links = known.join(linked.select("identity_id"), on="identity_id", how="left_anti").unionByName(linked)
    rows = identities.resolve(built.unionByName(renamed, allowMissingColumns=True), "session_id", "ended_at", links)
    is_new = F.col("was").isNull() | (F.col("was") != F.col("person_id"))
    rows = this.settle(rows.filter(is_new).select(*SESSIONS.columns))
    this.replace_matching(SESSIONS, sessions.replacement(rows, touched))
    # Last: a rerun finds by the new links whose sessions are still to be renamed.
    this.replace_matching(IDENTITIES, linked.withColumn("gone", F.lit(False)))
    of_batch = rows.filter(F.array_contains("batches", this.batch))
    ledger.record_sessions(this.fs, this.layout, this.cut.name)
    people, bots = of_batch.agg(F.count_if(~F.col("is_bot")), F.count_if("is_bot")).collect()[0]
    return {"sessions": people + bots, "bot_sessions": bots}


def others(this: Job, events: DataFrame, touched: DataFrame) -> DataFrame:
    """The events of other batches in the touched sessions; only those batches are read."""
    numbers = touched.select(F.explode("batches").alias("batch")).distinct().collect()
    wanted = [row["batch"] for row in numbers if row["batch"] != this.batch]
    return sessions.members(events.filter(F.col("batch").isin(wanted)), touched)


def main(argv: Sequence[str] | None = None) -> int:
    return job.run("build_sessions", __doc__ or "", work, argv)


if __name__ == "__main__":
    sys.exit(main())
