"""Distributions of what a model learns from, by which the promotion gate tells drift. DataFrames in, histograms out.

Compared are windows of the same length, the newest days of each batch: all of time would thin out what has just begun.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from processing.feature_definitions import millis
from processing.training.promotion_gate import Histogram, Window

Values = Callable[[DataFrame], DataFrame]  # rows -> (name, value, visitor_id) of what is learnt from
_DIGITS = 3
_DECILES = [n / 10 for n in range(1, 10)]


def reference(rows: DataFrame, time: Column, days: int, values: Values) -> dict[str, Histogram]:
    """The distributions of the newest `days` of `rows`, by which later batches tell drift."""
    newest, _ = windows(rows, time, days)
    return histograms(relative(values(newest)))


def compared(rows: DataFrame, time: Column, days: int, values: Values, like: Mapping[str, Histogram]) -> Window:
    """What the gate compares with the champion's distributions, in their bins; without any nothing is read."""
    if not like:
        return Window({}, {})
    now, preceding = (histograms(relative(values(some)), like) for some in windows(rows, time, days))
    return Window(now, preceding)


def windows(rows: DataFrame, time: Column, days: int) -> tuple[DataFrame, DataFrame]:
    """The rows of the newest `days`, and those of as many days before them. `time`: milliseconds since 1970."""
    length = millis(timedelta(days=days))
    newest = F.lit(rows.agg(F.max(time)).collect()[0][0] or 0)
    now, before = time > newest - length, time > newest - 2 * length
    return rows.filter(now), rows.filter(~now & before)


def of_interactions(interactions: DataFrame) -> DataFrame:
    """(name, value, visitor_id): how often a visitor met an item, items by how many met them, visitors by how many they
    met. None decays with age."""
    met = F.col("events").cast("bigint").alias("value")
    by_item = interactions.groupBy("item_id").agg(F.count("*").alias("value"))
    by_visitor = interactions.groupBy("visitor_id").agg(F.count("*").alias("value"))
    nobody = F.lit(None).cast("string").alias("visitor_id")
    return (
        interactions.select(F.lit("interactions").alias("name"), met, "visitor_id")
        .unionByName(by_item.select(F.lit("item_popularity").alias("name"), "value", nobody))
        .unionByName(by_visitor.select(F.lit("visitor_activity").alias("name"), "value", "visitor_id"))
    )


def relative(values: DataFrame) -> DataFrame:
    """(name, value, visitor_id) with each value relative to its name's mean: more of all is no drift.

    Of few digits, since deciles are exact and so need memory for each value that is different.
    """
    values = values.persist()
    means = {row["name"]: row["mean"] for row in values.groupBy("name").agg(F.avg("value").alias("mean")).collect()}
    if not means:
        return values
    by_mean = F.create_map(*(F.lit(part) for pair in means.items() for part in pair))
    share = F.coalesce(F.try_divide("value", by_mean[F.col("name")]), F.lit(0.0))
    return values.select("name", F.round(share, _DIGITS).alias("value"), "visitor_id")


def histograms(values: DataFrame, like: Mapping[str, Histogram] | None = None) -> dict[str, Histogram]:
    """One for each name of (name, value, visitor_id), with the number of its visitors, where it is of visitors; the
    bins are the deciles, or those of `like`."""
    values = values.persist()
    edges = _edges(values) if like is None else {name: histogram.edges for name, histogram in like.items()}
    if not edges:
        return {}
    binned = values.filter(F.col("name").isin(*edges)).withColumn("bin", _bin(edges))
    rows = binned.groupBy("name", "bin").count().collect()
    found = {(row["name"], row["bin"]): row["count"] for row in rows}
    people = binned.groupBy("name").agg(F.count_distinct("visitor_id").alias("visitors")).collect()
    visitors = {row["name"]: row["visitors"] or None for row in people}
    counts = {name: tuple(found.get((name, at), 0) for at in range(len(some) + 1)) for name, some in edges.items()}
    return {name: Histogram(some, counts[name], visitors.get(name)) for name, some in edges.items()}


def _bin(edges: Mapping[str, Sequence[float]]) -> Column:
    """The bin of a value: the number of its name's edges below it."""
    pairs = ((F.lit(name), F.array(*map(F.lit, some)).cast("array<double>")) for name, some in edges.items())
    bounds = F.create_map(*(part for pair in pairs for part in pair))
    return F.size(F.filter(bounds[F.col("name")], lambda edge: edge < F.col("value")))


def _edges(values: DataFrame) -> dict[str, tuple[float, ...]]:
    """The deciles, each moved halfway to the next value that there is: small counts must not tip over an edge that is
    one of them."""
    rows = values.groupBy("name").agg(F.percentile("value", F.lit(_DECILES)).alias("deciles")).collect()
    deciles = {row["name"]: sorted(set(row["deciles"])) for row in sorted(rows)}
    if not deciles:
        return {}
    lowest = values.groupBy("name", _bin(deciles).alias("bin")).agg(F.min("value").alias("least")).collect()
    found: dict[str, set[float]] = {name: set() for name in deciles}
    for name, some in deciles.items():
        for number, edge in enumerate(some):
            following = min(
                (row["least"] for row in lowest if row["name"] == name and row["bin"] > number), default=None
            )
            if following is not None:
                found[name].add(round((edge + following) / 2, 6))
    return {name: tuple(sorted(edges)) for name, edges in found.items()}
