"""Matrix factorisation of implicit feedback: Hu, Koren, Volinsky (2008) by MLlib's ALS. DataFrames in and out.

Ids become integers by their sorted order, the seed and the number of blocks are fixed, scores are rounded and ties go
by item id: the same interactions give the same lists.
"""

from __future__ import annotations

from dataclasses import dataclass

from pyspark.ml.recommendation import ALS, ALSModel
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

# One list longer than this costs more than it brings: who has seen more is filled up with popular items.
MAX_SEEN = 1000


@dataclass(frozen=True, slots=True)
class Recipe:
    """Hyperparameters; `blocks` is ALS's parallelism and part of the recipe, since sums depend on it."""

    rank: int = 16
    iterations: int = 10
    regularization: float = 0.1
    alpha: float = 10.0
    seed: int = 42
    blocks: int = 4


@dataclass(frozen=True)
class Factors:
    """A fitted model and what its integers mean: visitors (visitor_id, visitor), items (item_id, item)."""

    model: ALSModel
    visitors: DataFrame
    items: DataFrame


def fit(interactions: DataFrame, recipe: Recipe) -> Factors | None:
    """Factors of (visitor_id, item_id, weight); None when there are no interactions to learn from."""
    ratings = interactions.filter(F.col("weight") > 0).select("visitor_id", "item_id", "weight")
    visitors = _index(ratings, "visitor_id", "visitor").cache()
    items = _index(ratings, "item_id", "item").cache()
    if items.isEmpty():
        return None
    als = ALS(
        userCol="visitor",
        itemCol="item",
        ratingCol="rating",
        implicitPrefs=True,
        rank=recipe.rank,
        maxIter=recipe.iterations,
        regParam=recipe.regularization,
        alpha=recipe.alpha,
        seed=recipe.seed,
        numUserBlocks=recipe.blocks,
        numItemBlocks=recipe.blocks,
        # Each iteration adds to the lineage; where a checkpoint folder is set, it is cut before tasks grow too deep for
        # a thread's stack.
        checkpointInterval=3,
    )
    indexed = (
        ratings.join(visitors, on="visitor_id", how="inner")
        .join(items, on="item_id", how="inner")
        # The hundredth view of a page tells less than the second.
        .select("visitor", "item", F.log1p("weight").cast("float").alias("rating"))
    )
    return Factors(als.fit(indexed), visitors, items)


def top(factors: Factors, visitors: DataFrame, seen: DataFrame, n: int) -> DataFrame:
    """(visitor_id, rank from 0, item_id, score): the best `n` items for those of `visitors` whom the model knows.

    `seen`: (visitor_id, item_id) pairs to leave out.
    """
    known = visitors.select("visitor_id").join(factors.visitors, on="visitor_id", how="inner")
    longest = (
        seen.join(visitors, on="visitor_id", how="left_semi")
        .groupBy("visitor_id")
        .count()
        .agg(F.max("count"))
        .collect()[0][0]
    )
    wanted = n + min(longest or 0, MAX_SEEN)
    lists = factors.model.recommendForUserSubset(known.select("visitor"), wanted)
    scored = (
        lists.select("visitor", F.explode("recommendations").alias("one"))
        .select("visitor", F.col("one.item").alias("item"), F.round("one.rating", 6).alias("score"))
        .join(known, on="visitor", how="inner")
        .join(factors.items, on="item", how="inner")
        .join(seen.select("visitor_id", "item_id"), on=["visitor_id", "item_id"], how="left_anti")
    )
    return first(scored, n, by="visitor_id", item="item_id").select("visitor_id", "rank", "item_id", "score")


def first(scored: DataFrame, n: int, by: str, item: str) -> DataFrame:
    """The `n` highest scores of each `by`, with `rank` from 0; ties go by `item`."""
    best = Window.partitionBy(by).orderBy(F.col("score").desc(), item)
    return scored.withColumn("rank", F.row_number().over(best) - 1).filter(F.col("rank") < n)


def _index(ratings: DataFrame, name: str, index: str) -> DataFrame:
    """Each id's place in the sorted order of all: dense integers, as ALS needs them."""
    return (
        ratings.select(name).distinct().withColumn(index, (F.row_number().over(Window.orderBy(name)) - 1).cast("int"))
    )
