"""Who an anonymous visitor turned out to be, and since when that is known. DataFrames in, DataFrames out.

An event that has both ids (identify, or any other of somebody who is logged in) links them. A link holds from its first
such event on, so that what happened before is never told by what became known later; of several, the newest holds.
"""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from processing.tables import IDENTITIES


def links(events: DataFrame) -> DataFrame:
    """Rows of `identities` that these events alone tell; bots are nobody."""
    both = F.col("anonymous_id").isNotNull() & F.col("user_id").isNotNull()
    return (
        events.filter(both & ~F.coalesce("device.is_bot", F.lit(False)))
        .groupBy(F.col("anonymous_id").alias("visitor_id"), "user_id")
        .agg(F.min("occurred_at").alias("since"))
        .withColumn("identity_id", F.sha2(F.concat_ws("\n", "visitor_id", "user_id"), 256))
        .select(*IDENTITIES.columns)
    )


def news(found: DataFrame, current: DataFrame) -> DataFrame:
    """Those of the links `found` that are not among the `current`, or hold from an earlier time on."""
    known = current.select("identity_id", F.col("since").alias("known_since"))
    return (
        found.join(known, on="identity_id", how="left")
        .filter(F.col("known_since").isNull() | (F.col("since") < F.col("known_since")))
        .select(*IDENTITIES.columns)
    )


def resolve(rows: DataFrame, key: str, at: str, identities: DataFrame) -> DataFrame:
    """`rows` with `person_id`: the user whom their `visitor_id` was linked with at the time `at`, else the visitor.

    `key` is unique in `rows`.
    """
    known = identities.select("visitor_id", F.col("user_id").alias("linked"), "since")
    newest = (
        rows.select(key, "visitor_id", at)
        .join(known, on="visitor_id", how="inner")
        .filter(F.col("since") <= F.col(at))
        .groupBy(key)
        .agg(F.max_by("linked", F.struct("since", "linked")).alias("linked"))
    )
    return (
        rows.join(newest, on=key, how="left").withColumn("person_id", F.coalesce("linked", "visitor_id")).drop("linked")
    )
