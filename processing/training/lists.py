"""The lists that the web app shows: per visitor, per item, and for everybody. DataFrames in and out.

`rank` counts from 0, ties go by item id.
"""

from __future__ import annotations

from datetime import timedelta

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from processing.algorithms import popular
from processing.events import sessions

MAX_SESSION_ITEMS = 50  # pairs grow with the square; a session beyond is cut to its first ones


def for_visitors(
    visitors: DataFrame, learned: DataFrame | None, ranked: DataFrame, seen: DataFrame, n: int, source: str = "learned"
) -> DataFrame:
    """(visitor_id, rank, item_id, score, source): `n` items per visitor, learned ones first, then popular ones.

    `learned`: what a model's `top` gives, None where nothing could be learned; `source` names it. Scores compare within
    one source only.
    """
    columns = ("visitor_id", "rank", "item_id", "score", "source")
    if learned is None:
        return popular.unseen(visitors, ranked, seen, n).withColumn("source", F.lit("popular")).select(*columns)
    have = learned.groupBy("visitor_id").agg(F.count("*").cast("int").alias("have"))
    lacking = (
        visitors.select("visitor_id")
        .join(have, on="visitor_id", how="left")
        .withColumn("have", F.coalesce("have", F.lit(0)))
        .filter(F.col("have") < n)
    )
    unwanted = seen.select("visitor_id", "item_id").unionByName(learned.select("visitor_id", "item_id"))
    filling = (
        popular.unseen(lacking, ranked, unwanted, n)
        .join(lacking, on="visitor_id", how="inner")
        .withColumn("rank", F.col("rank") + F.col("have"))
        .filter(F.col("rank") < n)
        .withColumn("source", F.lit("popular"))
    )
    return learned.withColumn("source", F.lit(source)).select(*columns).unionByName(filling.select(*columns))


def similar(events: DataFrame, gap: timedelta, n: int) -> DataFrame:
    """(item_id, rank, similar_item_id, score): items that the same sessions of people met, most similar first.

    Cosine of the items' session vectors: sessions with both / sqrt(sessions with the one x with the other).
    """
    visits = _session_items(events, gap).persist()  # used three times
    counts = visits.groupBy("item_id").agg(F.count("*").alias("visits"))
    left = visits.select("session_id", "item_id")
    right = visits.select("session_id", F.col("item_id").alias("similar_item_id"))
    pairs = (
        left.join(right, on="session_id", how="inner")
        .filter(F.col("item_id") != F.col("similar_item_id"))
        .groupBy("item_id", "similar_item_id")
        .agg(F.count("*").alias("both"))
    )
    other = counts.select(F.col("item_id").alias("similar_item_id"), F.col("visits").alias("other_visits"))
    scored = pairs.join(counts, on="item_id", how="inner").join(other, on="similar_item_id", how="inner")
    scored = scored.withColumn("score", F.round(F.col("both") / F.sqrt(F.col("visits") * F.col("other_visits")), 6))
    best = Window.partitionBy("item_id").orderBy(F.col("score").desc(), "similar_item_id")
    return (
        scored.withColumn("rank", F.row_number().over(best) - 1)
        .filter(F.col("rank") < n)
        .select("item_id", "rank", "similar_item_id", "score")
    )


def _session_items(events: DataFrame, gap: timedelta) -> DataFrame:
    """Distinct (session_id, item_id) of people, at most MAX_SESSION_ITEMS of a session, the first ones."""
    earliest = Window.partitionBy("session_id").orderBy("place")
    return (
        sessions.assign(events, gap)
        .filter(~F.col("is_bot") & F.col("item_id").isNotNull())
        .groupBy("session_id", "item_id")
        .agg(F.min("place").alias("place"))
        .withColumn("nth", F.row_number().over(earliest))
        .filter(F.col("nth") <= MAX_SESSION_ITEMS)
        .select("session_id", "item_id")
    )
