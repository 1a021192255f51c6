"""popular: what most people met, ever or within the last days. The same list for everybody, but for what each met."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from processing.algorithms.blend import CANDIDATES
from processing.algorithms.interface import MAX_SEEN, Algorithm, Choices, Model, TrainingSet


@dataclass(frozen=True)
class Popular:
    """`ranked`: (rank, item_id, score), the same for everybody."""

    ranked: DataFrame

    def top(self, visitors: DataFrame, seen: DataFrame, n: int) -> DataFrame:
        return unseen(visitors, self.ranked, seen, n)

    def save(self, url: str) -> None:
        self.ranked.coalesce(1).write.mode("overwrite").parquet(f"{url}/ranked")


def popularity(data: TrainingSet, window_days: float = 0.0) -> DataFrame:
    """(rank, item_id, score): the summed weights of all interactions, or with `window_days` the visits of the last
    days before `as_of`; long enough for lists of whoever has met up to MAX_SEEN items."""
    if window_days:
        since = F.lit(data.as_of - timedelta(days=window_days))
        counted = data.visits.filter(F.col("occurred_at") >= since).groupBy("item_id").agg(F.count("*").alias("sum"))
    else:
        counted = data.interactions.groupBy("item_id").agg(F.sum("weight").alias("sum"))
    items = counted.select("item_id", F.round(F.col("sum").cast("double"), 6).alias("popularity"))
    return most(items, CANDIDATES + MAX_SEEN)


def most(items: DataFrame, n: int) -> DataFrame:
    """(rank, item_id, score): the `n` items of the highest popularity above 0. `items`: (item_id, popularity)."""
    return (
        items.filter(F.col("popularity") > 0)
        .orderBy(F.col("popularity").desc(), "item_id")
        .limit(n)
        .withColumn("rank", F.row_number().over(Window.orderBy(F.col("popularity").desc(), "item_id")) - 1)
        .select("rank", "item_id", F.col("popularity").alias("score"))
    )


def unseen(visitors: DataFrame, ranked: DataFrame, seen: DataFrame, n: int) -> DataFrame:
    """(visitor_id, rank, item_id, score): for each of `visitors` the first `n` of `ranked` that they have not seen.

    `ranked`: what `most` gives, long enough to leave `n`.
    """
    in_order = F.sort_array(F.collect_list(F.struct("rank", "item_id", "score")))
    met = seen.groupBy("visitor_id").agg(F.collect_set("item_id").alias("met"))
    nothing = F.array().cast("array<string>")
    # Of the first n + |met| items at least n are not met.
    candidates = F.slice("ranked", F.lit(1), F.lit(n) + F.size("met"))
    unmet = F.filter(candidates, lambda one: ~F.array_contains("met", one["item_id"]))
    return (
        visitors.select("visitor_id")
        .join(met, on="visitor_id", how="left")
        .withColumn("met", F.coalesce("met", nothing))
        .crossJoin(F.broadcast(ranked.agg(in_order.alias("ranked"))))
        .select("visitor_id", F.posexplode(F.slice(unmet, 1, n)).alias("rank", "one"))
        .select("visitor_id", "rank", "one.item_id", "one.score")
    )


def _fit(data: TrainingSet, parameters: dict[str, Any]) -> Model | None:
    ranked = popularity(data, parameters["window_days"]).persist()
    return None if ranked.isEmpty() else Popular(ranked)


def _load(spark: SparkSession, parameters: dict[str, Any], url: str) -> Model:
    return Popular(spark.read.parquet(f"{url}/ranked"))


POPULAR = Algorithm({"window_days": 0.0}, {"window_days": Choices((0.0, 1.0, 3.0, 7.0))}, _fit, _load)
