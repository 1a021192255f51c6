"""Matrix factorisation by MLlib's ALS: of implicit feedback (Hu, Koren, Volinsky 2008), or of the weights themselves.

DataFrames in and out.

Ids become integers by their sorted order, the seed and the number of blocks are fixed, scores are rounded and ties go
by item id: the same interactions give the same lists.
"""

from __future__ import annotations

from dataclasses import dataclass

from pyspark.ml.recommendation import ALS, ALSModel
from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F

# Longer lists cost more than they bring: who has met more items is filled up with popular ones.
MAX_SEEN = 1000
_INTERACTIONS_PER_BLOCK = 1_000_000


@dataclass(frozen=True, slots=True)
class Recipe:
    """Hyperparameters, those that did well on simulated shoppers. `explicit`: weights are ratings; no `alpha` then."""

    rank: int = 16
    iterations: int = 8
    regularization: float = 0.1
    alpha: float = 3.0
    explicit: bool = False
    seed: int = 42


@dataclass(frozen=True)
class Factors:
    """A fitted model and what its integers mean: visitors (visitor_id, visitor), items (item_id, item)."""

    model: ALSModel
    visitors: DataFrame
    items: DataFrame

    def top(self, visitors: DataFrame, seen: DataFrame, n: int) -> DataFrame:
        """(visitor_id, rank, item_id, score), see `top`."""
        return top(self, visitors, seen, n)

    def save(self, url: str) -> None:
        """Writes the model below `url`, in place of what is there."""
        self.model.write().overwrite().save(f"{url}/model")
        self.visitors.coalesce(1).write.mode("overwrite").parquet(f"{url}/visitors")
        self.items.coalesce(1).write.mode("overwrite").parquet(f"{url}/items")


def load(spark: SparkSession, url: str) -> Factors:
    """What `Factors.save` wrote below `url`."""
    return Factors(
        ALSModel.load(f"{url}/model"),
        spark.read.parquet(f"{url}/visitors"),
        spark.read.parquet(f"{url}/items"),
    )


def fit(interactions: DataFrame, recipe: Recipe) -> Factors | None:
    """Factors of (visitor_id, item_id, weight); None when there are no interactions to learn from.

    The session should have a checkpoint folder: each iteration adds to the lineage, and tasks of a long one overflow
    their thread's stack.
    """
    indexed, visitors, items = index(interactions)
    size = indexed.count()
    return Factors(estimator(recipe, size).fit(indexed), visitors, items) if size else None


def index(interactions: DataFrame) -> tuple[DataFrame, DataFrame, DataFrame]:
    """(visitor, item, rating) as ALS takes them, visitors (visitor_id, visitor), items (item_id, item), all cached."""
    ratings = interactions.filter(F.col("weight") > 0).select("visitor_id", "item_id", "weight")
    visitors = _index(ratings, "visitor_id", "visitor").cache()
    items = _index(ratings, "item_id", "item").cache()
    indexed = (
        ratings.join(visitors, on="visitor_id", how="inner")
        .join(items, on="item_id", how="inner")
        # The hundredth view of a page tells less than the second.
        .select("visitor", "item", F.log1p("weight").cast("float").alias("rating"))
        .cache()
    )
    return indexed, visitors, items


def estimator(recipe: Recipe, size: int) -> ALS:
    """MLlib's ALS for `size` ratings. Its blocks are a function of the data alone: sums depend on them, and must not
    depend on the machine."""
    blocks = 1 + size // _INTERACTIONS_PER_BLOCK
    return ALS(
        userCol="visitor",
        itemCol="item",
        ratingCol="rating",
        coldStartStrategy="drop",
        implicitPrefs=not recipe.explicit,
        rank=recipe.rank,
        maxIter=recipe.iterations,
        regParam=recipe.regularization,
        alpha=recipe.alpha,
        seed=recipe.seed,
        numUserBlocks=blocks,
        numItemBlocks=blocks,
        checkpointInterval=4,
    )


def top(factors: Factors, visitors: DataFrame, seen: DataFrame, n: int) -> DataFrame:
    """(visitor_id, rank from 0, item_id, score): the best `n` items for those of `visitors` whom the model knows.

    `seen`: (visitor_id, item_id) pairs to leave out. Equal scores go by item id, which is the order of the index.
    """
    known = visitors.select("visitor_id").join(factors.visitors, on="visitor_id", how="inner").cache()
    met = (
        seen.join(known, on="visitor_id", how="inner")
        .join(factors.items, on="item_id", how="inner")
        .groupBy("visitor")
        .agg(F.collect_set("item").alias("met"))
        .cache()
    )
    longest = met.agg(F.max(F.size("met"))).collect()[0][0] or 0
    lists = factors.model.recommendForUserSubset(known.select("visitor"), n + min(longest, MAX_SEEN))
    nothing = F.array().cast("array<int>")
    unmet = F.filter("recommendations", lambda one: ~F.array_contains(F.coalesce("met", nothing), one["item"]))
    by_score = F.transform(unmet, lambda one: F.struct((-F.round(one["rating"], 6)).alias("below"), one["item"]))
    return (
        lists.join(met, on="visitor", how="left")
        .select("visitor", F.posexplode(F.slice(F.array_sort(by_score), 1, n)).alias("rank", "one"))
        .select("visitor", "rank", F.col("one.item").alias("item"), (-F.col("one.below")).alias("score"))
        .join(known, on="visitor", how="inner")
        .join(factors.items, on="item", how="inner")
        .select("visitor_id", "rank", "item_id", F.col("score").cast("double").alias("score"))
    )


def _index(ratings: DataFrame, name: str, index: str) -> DataFrame:
    """Each id's place in the sorted order of all: dense integers, as ALS needs them."""
    return (
        ratings.select(name).distinct().withColumn(index, (F.row_number().over(Window.orderBy(name)) - 1).cast("int"))
    )
