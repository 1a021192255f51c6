"""What the gate asks of the data: distributions and a trial of a model's lists. DataFrames in; small facts out."""

from __future__ import annotations

from collections.abc import Mapping

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from processing import recommend
from processing.training import als
from processing.training.gate import Histogram, Smoke
from processing.training.recommenders import Model

_SAMPLE = 100  # visitors whose lists are looked at
_DECILES = [n / 10 for n in range(1, 10)]


def distributions(interactions: DataFrame, like: Mapping[str, Histogram] | None = None) -> dict[str, Histogram]:
    """Histograms of how often a visitor met an item, of items by how many met them, of visitors by how many they met.

    Each value is relative to its mean, and none decays with age: history that only grows longer is no drift. The bins
    are the deciles, or those of `like`.
    """
    values = {
        "interactions": interactions.select(F.col("events").alias("value")),
        "item_popularity": interactions.groupBy("item_id").agg(F.count("*").alias("value")),
        "visitor_activity": interactions.groupBy("visitor_id").agg(F.count("*").alias("value")),
    }
    return {name: _histogram(rows, like[name].edges if like else None) for name, rows in values.items()}


def _histogram(rows: DataFrame, edges: tuple[float, ...] | None) -> Histogram:
    mean = rows.agg(F.avg("value")).collect()[0][0] or 1.0
    values = rows.select((F.col("value") / mean).alias("value")).persist()
    edges = _edges(values) if edges is None else edges
    above: Column = F.lit(0)
    for edge in edges:
        above = above + (F.col("value") > edge).cast("int")
    found = {row["bin"]: row["count"] for row in values.groupBy(above.alias("bin")).count().collect()}
    return Histogram(edges, tuple(found.get(number, 0) for number in range(len(edges) + 1)))


def _edges(values: DataFrame) -> tuple[float, ...]:
    """The deciles, each moved halfway to the next value that there is: small counts must not tip over an edge that is
    one of them."""
    deciles = sorted(set(values.agg(F.percentile("value", F.lit(_DECILES))).collect()[0][0] or []))
    if not deciles:
        return ()
    following = values.agg(*(F.min(F.when(F.col("value") > edge, F.col("value"))) for edge in deciles)).collect()[0]
    pairs = zip(deciles, following, strict=True)
    return tuple(sorted({round((edge + more) / 2, 6) for edge, more in pairs if more is not None}))


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
