"""Identities: which users an anonymous visitor turned out to be, and when. DataFrames in, DataFrames out.

An event that has both ids (identify, or any other of somebody who is logged in) is a sighting. A row sums up those of a
visitor as a user within one stretch of time, as long as a session's gap: a session that has no user lies between such
stretches and never within one, so they tell exactly who was seen last before it. What happened before a sighting is
never told by it.
"""

from __future__ import annotations

from datetime import timedelta

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from processing.tables.event_times import from_millis
from processing.tables.schemas import IDENTITIES


def links(events: DataFrame, gap: timedelta) -> DataFrame:
    """Rows of `identities` that these events alone tell; bots are nobody."""
    stretch = F.floor(F.unix_millis("occurred_at") / (gap // timedelta(milliseconds=1)))
    both = F.col("anonymous_id").isNotNull() & F.col("user_id").isNotNull()
    return (
        events.filter(both & ~F.coalesce("device.is_bot", F.lit(False)))
        .groupBy(F.col("anonymous_id").alias("visitor_id"), "user_id", stretch.alias("stretch"))
        .agg(F.min("occurred_at").alias("since"), F.max("occurred_at").alias("until"))
        .withColumn("identity_id", F.sha2(F.concat_ws("\n", "visitor_id", "user_id", "stretch"), 256))
        .select(*IDENTITIES.columns)
    )


def news(found: DataFrame, current: DataFrame) -> DataFrame:
    """The links `found` that are not among the `current`, or tell of an earlier or later sighting; both together."""
    known = current.select("identity_id", F.col("since").alias("known_since"), F.col("until").alias("known_until"))
    wider = (F.col("since") < F.col("known_since")) | (F.col("until") > F.col("known_until"))
    return (
        found.join(known, on="identity_id", how="left")
        .filter(F.col("known_since").isNull() | wider)
        .withColumn("since", F.least("since", "known_since"))
        .withColumn("until", F.greatest("until", "known_until"))
        .select(*IDENTITIES.columns)
    )


def told_of(sessions: DataFrame, news: DataFrame) -> DataFrame:
    """Those of the `sessions` of which the links `news` may tell who it was: they ended after one began to hold."""
    [(since,)] = news.agg(F.unix_millis(F.min("since"))).collect()
    if since is None:
        return sessions.limit(0)
    later = sessions.filter(F.col("ended_at") >= F.lit(from_millis(since)))
    return later.join(news.select("visitor_id").distinct(), on="visitor_id", how="left_semi")


def resolve(rows: DataFrame, key: str, at: str, identities: DataFrame) -> DataFrame:
    """`rows` with `person_id`: their own `user_id`, else the user as whom their `visitor_id` was last seen before the
    time `at`, else the visitor. What a bot says of its user tells nothing.

    `key` is unique in `rows`.
    """
    known = identities.select("visitor_id", F.col("user_id").alias("linked"), "since", "until")
    seen_at = F.least("until", at)
    newest = (
        rows.select(key, "visitor_id", at)
        .join(known, on="visitor_id", how="inner")
        .filter(F.col("since") <= F.col(at))
        .groupBy(key)
        .agg(F.max_by("linked", F.struct(seen_at, "since", "linked")).alias("linked"))
    )
    own = F.when(~F.col("is_bot"), F.col("user_id"))
    told = rows.join(newest, on=key, how="left").withColumn("person_id", F.coalesce(own, "linked", "visitor_id"))
    return told.drop("linked")
