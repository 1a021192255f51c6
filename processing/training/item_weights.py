"""Recommenders that are a weight for each pair of items: who met the one may want the other. DataFrames in and out.

cooccurrence   who met both, by Jaccard's index or cosine; Microsoft's SAR (Aggarwal 2016, section 2.3)
ease           EASE^R, the closed form of processing/training/linear.py, on the most popular items
sessions       what was met a few steps apart in a visit, newer visits and nearer steps counting more: a Markov chain
               over several steps (Ludewig and Jannach 2018: sequential rules)

A visitor's score of an item is the sum of the weights of what this visitor met, each times its place in the profile.
Of an item the NEIGHBOURS of the largest weights are kept, so that nothing grows with the square of the items but EASE's
matrix on the driver, which `max_items` bounds.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

import numpy as np
import pyarrow as pa
from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from processing.training import linear

NEIGHBOURS = 200
PROFILE = 200  # items of a visitor that count at most, the newest: pairs grow with their square
_DAY = 86_400.0
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
            _newest(met, PROFILE)
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
        """What an item of the profile counts; `place` and `newest` come from `_newest`."""
        if self.profile == "recency":
            return F.pow(F.lit(0.8), F.col("place") - 1)
        if self.profile == "ones":
            return F.lit(1.0)
        value = F.log1p("weight")
        if not self.half_life_days:
            return value
        age = F.col("newest").cast("double") - F.col("last_at").cast("double")
        return value * F.pow(F.lit(0.5), age / (self.half_life_days * _DAY))


def load(spark: SparkSession, url: str) -> DataFrame:
    """What `ItemWeights.save` wrote below `url`."""
    return spark.read.parquet(f"{url}/weights")


def cooccurrence(interactions: DataFrame, similarity: str) -> DataFrame:
    """(item_id, other_id, weight): "jaccard", or "cosine", of who met the two items."""
    met = _newest(interactions, PROFILE).select("visitor_id", "item_id").persist()
    alone = met.groupBy("item_id").agg(F.count("*").alias("alone"))
    other = alone.withColumnsRenamed({"item_id": "other_id", "alone": "other_alone"})
    both = _pairs(met.withColumn("value", F.lit(1.0)))
    counted = both.join(alone, on="item_id", how="inner").join(other, on="other_id", how="inner")
    weight = {
        "jaccard": F.col("both") / (F.col("alone") + F.col("other_alone") - F.col("both")),
        "cosine": F.col("both") / F.sqrt(F.col("alone") * F.col("other_alone")),
    }[similarity]
    return _strongest(counted.filter("item_id != other_id").withColumn("weight", weight))


def ease(interactions: DataFrame, regularization: float, weighted: bool, max_items: int) -> DataFrame | None:
    """(item_id, other_id, weight) of the `max_items` items that most visitors met; None without any.

    `weighted`: on log weights instead of ones. The matrix, max_items squared, is the driver's.
    """
    met = _newest(interactions, PROFILE).filter(F.col("weight") > 0)
    frequent = met.groupBy("item_id").agg(F.count("*").alias("alone"))
    rows = frequent.orderBy(F.col("alone").desc(), "item_id").limit(max_items).collect()
    names = sorted(row["item_id"] for row in rows)
    if not names:
        return None
    spark = interactions.sparkSession
    index = spark.createDataFrame(pa.table({"item_id": names, "index": np.arange(len(names), dtype=np.int32)}))
    value = F.log1p("weight") if weighted else F.lit(1.0)
    indexed = met.join(F.broadcast(index), on="item_id", how="inner")
    found = _pairs(indexed.select("visitor_id", F.col("index").alias("item_id"), value.alias("value"))).toArrow()
    gram = np.zeros((len(names), len(names)))
    gram[found["item_id"].to_numpy(), found["other_id"].to_numpy()] = found["both"].to_numpy()
    weights = linear.ease(gram, regularization)
    return spark.createDataFrame(_largest(weights, names), "item_id STRING, other_id STRING, weight DOUBLE")


def sessions(
    visits: DataFrame, as_of: datetime, gap: timedelta, steps: int, half_life_days: float, backward: float
) -> DataFrame:
    """(item_id, other_id, weight): other_id followed item_id in a visit, 1 / steps each time, halved for each
    `half_life_days` of age at `as_of`, as a share of all that followed; what went before counts `backward` of it.

    `visits`: (visitor_id, item_id, occurred_at); a visit ends with a pause longer than `gap`.
    """
    in_order = Window.partitionBy("visitor_id").orderBy("occurred_at", "item_id")
    seconds = F.col("occurred_at").cast("double")
    pause = F.coalesce(seconds - F.lag(seconds).over(in_order) > gap.total_seconds(), F.lit(True))
    of_visit = Window.partitionBy("visitor_id", "visit").orderBy("occurred_at", "item_id")
    following = F.array(*(F.struct(F.lead("item_id", s).over(of_visit), F.lit(1.0 / s)) for s in range(1, steps + 1)))
    age = F.greatest(F.lit(0.0), F.lit(as_of).cast("double") - seconds)  # a clock that runs ahead is now
    decay = F.pow(F.lit(0.5), age / (half_life_days * _DAY))
    steps_apart = (
        visits.withColumn("pause", pause.cast("int"))
        .withColumn("visit", F.sum("pause").over(in_order))
        .withColumn("following", following)
        .select("item_id", decay.alias("decay"), F.explode("following").alias("next"))
        .select("item_id", F.col("next.col1").alias("other_id"), (F.col("next.col2") * F.col("decay")).alias("weight"))
        .filter(F.col("other_id").isNotNull() & (F.col("item_id") != F.col("other_id")))
        .persist()
    )
    turned = steps_apart.select(
        F.col("other_id").alias("item_id"), F.col("item_id").alias("other_id"), F.col("weight") * backward
    )
    both = steps_apart.union(turned) if backward else steps_apart
    summed = both.groupBy("item_id", "other_id").agg(F.sum("weight").alias("weight"))
    share = F.col("weight") / F.sum("weight").over(Window.partitionBy("item_id"))
    return _strongest(summed.withColumn("weight", share))


def _newest(met: DataFrame, n: int) -> DataFrame:
    """The `n` newest items of each visitor, with their `place` from 1 and the time of the `newest`."""
    in_order = Window.partitionBy("visitor_id").orderBy(F.col("last_at").desc(), "item_id")
    return (
        met.withColumn("place", F.row_number().over(in_order))
        .withColumn("newest", F.max("last_at").over(Window.partitionBy("visitor_id")))
        .filter(F.col("place") <= n)
    )


def _pairs(met: DataFrame) -> DataFrame:
    """(item_id, other_id, both): over visitors, the summed product of the values; an item with itself too."""
    other = met.withColumnsRenamed({"item_id": "other_id", "value": "other_value"})
    product = F.round(F.sum(F.col("value") * F.col("other_value")), 6)
    return met.join(other, "visitor_id", "inner").groupBy("item_id", "other_id").agg(product.alias("both"))


def _strongest(weights: DataFrame) -> DataFrame:
    """Of each item the NEIGHBOURS of the largest weights, ties by id."""
    best = Window.partitionBy("item_id").orderBy(F.col("weight").desc(), "other_id")
    return (
        weights.withColumn("weight", F.round("weight", 9))
        .withColumn("place", F.row_number().over(best))
        .filter((F.col("place") <= NEIGHBOURS) & (F.col("weight") > 0))
        .select("item_id", "other_id", "weight")
    )


def _largest(weights: linear.Matrix, names: list[str]) -> pa.Table:
    """Of each row the NEIGHBOURS weights of the largest size, of either sign."""
    kept = np.argsort(-np.abs(weights), axis=1, kind="stable")[:, :NEIGHBOURS]
    rows = np.repeat(np.arange(len(names)), kept.shape[1])
    columns = kept.ravel()
    ids = np.asarray(names, dtype=object)
    values = np.round(weights[rows, columns], 9)
    some = values != 0
    return pa.table(
        {"item_id": pa.array(ids[rows[some]]), "other_id": pa.array(ids[columns[some]]), "weight": values[some]}
    )
