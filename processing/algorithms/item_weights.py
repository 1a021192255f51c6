"""Recommenders that are a weight for each pair of items: who met the one may want the other.

A visitor's score of an item is the sum of the weights of what this visitor met, each times its place in the profile.
Of an item the NEIGHBOURS of the largest weights are kept, so that a model grows with the items, not with their square.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from processing.algorithms.interface import Algorithm, Choices, Model, Parameters, Range, TrainingSet

NEIGHBOURS = 200
PROFILE = 200  # items of a visitor that count at most, the newest: pairs grow with their square
DAY = 86_400.0
Profile = Literal["ones", "weights", "recency"]


@dataclass(frozen=True)
class ItemWeights:
    """`weights`: (item_id, other_id, weight). `profile`: how the items that a visitor met count: all alike, by their
    log weights, halved for each `half_life_days` before the visitor's newest one, or 0.8 of the next newer one."""

    weights: DataFrame
    profile: Profile
    half_life_days: float = 0.0

    def top(self, visitors: DataFrame, seen: DataFrame, n: int) -> DataFrame:
        """(visitor_id, rank from 0, item_id, score > 0), the best `n` that are not in `seen`, ties by item id.

        `seen`: (visitor_id, item_id, weight, last_at).
        """
        met = seen.join(visitors.select("visitor_id"), on="visitor_id", how="left_semi")
        best = Window.partitionBy("visitor_id").orderBy(F.col("score").desc(), "item_id")
        return (
            newest(met, PROFILE)
            .select("visitor_id", F.col("item_id").alias("met_id"), self._value().alias("value"))
            .join(self.weights.withColumnsRenamed({"item_id": "met_id", "other_id": "item_id"}), "met_id", "inner")
            .groupBy("visitor_id", "item_id")
            .agg(F.round(F.sum(F.col("value") * F.col("weight")), 6).alias("score"))
            .filter(F.col("score") > 0)
            .join(met.select("visitor_id", "item_id"), on=["visitor_id", "item_id"], how="left_anti")
            .withColumn("rank", F.row_number().over(best) - 1)
            .filter(F.col("rank") < n)
            .select("visitor_id", "rank", "item_id", "score")
        )

    def save(self, url: str) -> None:
        self.weights.write.mode("overwrite").parquet(f"{url}/weights")

    def _value(self) -> Column:
        """Weight of an item in the profile; columns `place` and `newest` come from `newest`."""
        if self.profile == "recency":
            return F.pow(F.lit(0.8), F.col("place") - 1)
        if self.profile == "ones":
            return F.lit(1.0)
        value = F.log1p("weight")
        if not self.half_life_days:
            return value
        age = F.col("newest").cast("double") - F.col("last_at").cast("double")
        return value * F.pow(F.lit(0.5), age / (self.half_life_days * DAY))


def by_weights(
    defaults: Parameters,
    space: Mapping[str, Choices | Range],
    learn: Callable[[TrainingSet, dict[str, Any]], DataFrame | None],
    shape: Callable[[dict[str, Any]], tuple[Profile, float]],
) -> Algorithm:
    """An algorithm that learns (item_id, other_id, weight); `shape` gives profile and half-life of its models."""

    def fit(data: TrainingSet, parameters: dict[str, Any]) -> Model | None:
        weights = learn(data, parameters)
        known = weights.persist() if weights is not None else None
        return None if known is None or known.isEmpty() else ItemWeights(known, *shape(parameters))

    def load(spark: SparkSession, parameters: dict[str, Any], url: str) -> Model:
        return ItemWeights(spark.read.parquet(f"{url}/weights"), *shape(parameters))

    return Algorithm(defaults, space, fit, load)


def newest(met: DataFrame, n: int) -> DataFrame:
    """The `n` newest items of each visitor, with their `place` from 1 and the time of the `newest`."""
    in_order = Window.partitionBy("visitor_id").orderBy(F.col("last_at").desc(), "item_id")
    return (
        met.withColumn("place", F.row_number().over(in_order))
        .withColumn("newest", F.max("last_at").over(Window.partitionBy("visitor_id")))
        .filter(F.col("place") <= n)
    )


def pairs(met: DataFrame) -> DataFrame:
    """(item_id, other_id, both): over visitors, the summed product of the values; an item with itself too."""
    other = met.withColumnsRenamed({"item_id": "other_id", "value": "other_value"})
    product = F.round(F.sum(F.col("value") * F.col("other_value")), 6)
    return met.join(other, "visitor_id", "inner").groupBy("item_id", "other_id").agg(product.alias("both"))


def strongest(weights: DataFrame) -> DataFrame:
    """The NEIGHBOURS of each item with the largest weights, ties by id."""
    best = Window.partitionBy("item_id").orderBy(F.col("weight").desc(), "other_id")
    return (
        weights.withColumn("weight", F.round("weight", 9))
        .withColumn("place", F.row_number().over(best))
        .filter((F.col("place") <= NEIGHBOURS) & (F.col("weight") > 0))
        .select("item_id", "other_id", "weight")
    )
