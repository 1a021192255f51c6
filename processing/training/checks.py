"""What the gate asks of the data: distributions and a trial of a model's lists. DataFrames in; small facts out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from processing import recommend
from processing.training import als
from processing.training.gate import Histogram, Smoke
from processing.training.recommenders import Model

_SAMPLE = 100  # visitors whose lists are looked at
_DIGITS = 3
_DECILES = [n / 10 for n in range(1, 10)]


def distributions(interactions: DataFrame, like: Mapping[str, Histogram] | None = None) -> dict[str, Histogram]:
    """Histograms of how often a visitor met an item, of items by how many met them, of visitors by how many they met.

    Each value is relative to its mean, and none decays with age: history that only grows longer is no drift. The bins
    are the deciles, or those of `like`. Without interactions there are none.
    """
    return histograms(relative(_values(interactions)), like)


def relative(values: DataFrame) -> DataFrame:
    """(name, value) with each value relative to its name's mean: what only grows with the data's age stays as it is.

    Of few digits, since deciles are exact and so need memory for each value that is different.
    """
    values = values.persist()
    means = {row["name"]: row["mean"] for row in values.groupBy("name").agg(F.avg("value").alias("mean")).collect()}
    if not means:
        return values
    by_mean = F.create_map(*(F.lit(part) for pair in means.items() for part in pair))
    share = F.coalesce(F.try_divide("value", by_mean[F.col("name")]), F.lit(0.0))
    return values.select("name", F.round(share, _DIGITS).alias("value"))


def histograms(values: DataFrame, like: Mapping[str, Histogram] | None = None) -> dict[str, Histogram]:
    """One for each name of (name, value); the bins are the deciles, or those of `like`."""
    values = values.persist()
    edges = _edges(values) if like is None else {name: histogram.edges for name, histogram in like.items()}
    if not edges:
        return {}
    rows = values.filter(F.col("name").isin(*edges)).groupBy("name", _bin(edges).alias("bin")).count().collect()
    found = {(row["name"], row["bin"]): row["count"] for row in rows}
    return {
        name: Histogram(some, tuple(found.get((name, number), 0) for number in range(len(some) + 1)))
        for name, some in edges.items()
    }


def _bin(edges: Mapping[str, Sequence[float]]) -> Column:
    """How many of its name's edges a value lies above."""
    pairs = ((F.lit(name), F.array(*map(F.lit, some)).cast("array<double>")) for name, some in edges.items())
    bounds = F.create_map(*(part for pair in pairs for part in pair))
    return F.size(F.filter(bounds[F.col("name")], lambda edge: edge < F.col("value")))


def _values(interactions: DataFrame) -> DataFrame:
    """(name, value) of all distributions, one below the other."""
    by_item, by_visitor = (
        interactions.groupBy(key).agg(F.count("*").alias("value")) for key in ("item_id", "visitor_id")
    )
    return (
        interactions.select(F.lit("interactions").alias("name"), F.col("events").cast("bigint").alias("value"))
        .unionByName(by_item.select(F.lit("item_popularity").alias("name"), "value"))
        .unionByName(by_visitor.select(F.lit("visitor_activity").alias("name"), "value"))
    )


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


def try_out(model: Model | None, interactions: DataFrame, n: int) -> Smoke:
    """Lists of `n` for the visitors of the lowest hash, filled up with popular items as they are shown."""
    if model is None:
        return Smoke(0, 0, 0, 0, 0, 0)
    visitors = interactions.select("visitor_id").distinct()
    some = visitors.orderBy(F.xxhash64("visitor_id"), "visitor_id").limit(_SAMPLE).persist()
    met = interactions.select("visitor_id", "item_id", F.lit(True).alias("met"))
    items = interactions.groupBy("item_id").agg(F.round(F.sum("weight"), 6).alias("popularity"))
    ranked = recommend.popular(items, n + als.MAX_SEEN)
    shown = recommend.for_visitors(some, model.top(some, interactions, n).persist(), ranked, interactions, n)
    score = F.col("score")
    odd = score.isNull() | F.isnan("score") | (F.abs("score") == float("inf"))
    found = (
        shown.join(met, on=["visitor_id", "item_id"], how="left")
        .agg(
            F.count_distinct("visitor_id"),
            F.count_distinct(F.when(F.col("source") == "learned", F.col("visitor_id"))),
            F.count_if(F.col("met").isNotNull()),
            F.count_if(odd),
            F.count("*") - F.count_distinct("visitor_id", "item_id"),
        )
        .collect()[0]
    )
    return Smoke(some.count(), *found)
