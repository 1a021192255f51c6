"""als, als_explicit: matrix factorisation by MLlib's ALS; of implicit feedback (Hu, Koren, Volinsky 2008), or of
weights as ratings (Zhou et al. 2008), which it then predicts: of their logarithms, if `damped`, or as they are.

Ids become integers by their sorted order, the seed and the number of blocks are fixed, scores are rounded and ties go
by item id: the same interactions give the same lists.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pyspark.ml.evaluation import RegressionEvaluator
from pyspark.ml.recommendation import ALS, ALSModel
from pyspark.ml.tuning import CrossValidator, ParamGridBuilder, TrainValidationSplit
from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from processing.algorithms.interface import MAX_SEEN, Algorithm, Choices, Model, Parameters, Range, TrainingSet

_INTERACTIONS_PER_BLOCK = 1_000_000
_USUALLY_MET = 100  # items
_FEW = 500_000  # ratings; of more one split tells as much as three folds
_FOLDS, _PARTITIONS, _SEED = 3, 16, 42
_DEFAULTS: Parameters = {"rank": 16, "iterations": 8, "regularization": 0.1, "seed": 42}
_GRID: Mapping[str, Sequence[Any]] = {"rank": (8, 16), "regularization": (0.05, 0.2)}


@dataclass(frozen=True)
class Factors:
    """A fitted model and what its integers mean: visitors (visitor_id, visitor), items (item_id, item)."""

    model: ALSModel
    visitors: DataFrame
    items: DataFrame

    def top(self, visitors: DataFrame, seen: DataFrame, n: int) -> DataFrame:
        """(visitor_id, rank from 0, item_id, score): the best `n` items for those of `visitors` whom the model knows.

        `seen`: (visitor_id, item_id) pairs to leave out. Equal scores go by item id, which is the order of the index.
        """
        known = visitors.select("visitor_id").join(self.visitors, on="visitor_id", how="inner")
        met = (
            seen.join(known, on="visitor_id", how="inner")
            .join(self.items, on="item_id", how="inner")
            .groupBy("visitor")
            .agg(F.collect_set("item").alias("met"))
        )
        longest = min(met.agg(F.max(F.size("met"))).collect()[0][0] or 0, MAX_SEEN)
        # Lists must be longer by what their visitor has met; not all of them by what one visitor has.
        many = met.filter(F.size("met") > _USUALLY_MET).select("visitor")
        others = known.select("visitor").join(many, on="visitor", how="left_anti")
        lists = self.model.recommendForUserSubset(others, n + min(longest, _USUALLY_MET))
        if longest > _USUALLY_MET:
            lists = lists.unionByName(self.model.recommendForUserSubset(many, n + longest))
        nothing = F.array().cast("array<int>")
        unmet = F.filter("recommendations", lambda one: ~F.array_contains(F.coalesce("met", nothing), one["item"]))
        by_score = F.transform(unmet, lambda one: F.struct((-F.round(one["rating"], 6)).alias("below"), one["item"]))
        return (
            lists.join(met, on="visitor", how="left")
            .select("visitor", F.posexplode(F.slice(F.array_sort(by_score), 1, n)).alias("rank", "one"))
            .select("visitor", "rank", F.col("one.item").alias("item"), (-F.col("one.below")).alias("score"))
            .join(known, on="visitor", how="inner")
            .join(self.items, on="item", how="inner")
            .select("visitor_id", "rank", "item_id", F.col("score").cast("double").alias("score"))
        )

    def save(self, url: str) -> None:
        """Writes the model below `url`, replacing what is there."""
        self.model.write().overwrite().save(f"{url}/model")
        self.visitors.coalesce(1).write.mode("overwrite").parquet(f"{url}/visitors")
        self.items.coalesce(1).write.mode("overwrite").parquet(f"{url}/items")


@dataclass(frozen=True)
class RatingFactors(Factors):
    """Factors whose product is a weight, or with `damped` its logarithm."""

    damped: bool = True

    def predict(self, pairs: DataFrame) -> DataFrame:
        """(visitor_id, item_id, prediction), the weight expected of those of `pairs` that the model knows."""
        known = pairs.join(self.visitors, on="visitor_id", how="inner").join(self.items, on="item_id", how="inner")
        weight = F.expm1("prediction") if self.damped else F.col("prediction")
        return self.model.transform(known).select("visitor_id", "item_id", weight.alias("prediction"))


def fit(interactions: DataFrame, parameters: Parameters) -> Factors | None:
    """Factors of (visitor_id, item_id, weight); None when there are no interactions to learn from.

    The session should have a checkpoint folder: each iteration adds to the lineage, and tasks of a long one overflow
    their thread's stack.
    """
    return _fit_indexed(index(interactions, _is_damped(parameters)), parameters)


def _fit_indexed(of: tuple[DataFrame, DataFrame, DataFrame], parameters: Parameters) -> Factors | None:
    indexed, visitors, items = of
    size = indexed.count()
    if not size:
        return None
    return _factors(parameters, estimator({**_DEFAULTS, **parameters}, size).fit(indexed), visitors, items)


def load(spark: SparkSession, parameters: Parameters, url: str) -> Factors:
    """Reads what `Factors.save` wrote below `url`."""
    visitors, items = (spark.read.parquet(f"{url}/{name}") for name in ("visitors", "items"))
    return _factors(parameters, ALSModel.load(f"{url}/model"), visitors, items)


def _factors(parameters: Parameters, model: ALSModel, visitors: DataFrame, items: DataFrame) -> Factors:
    if parameters.get("explicit"):
        return RatingFactors(model, visitors, items, _is_damped(parameters))
    return Factors(model, visitors, items)


def _is_damped(parameters: Parameters) -> bool:
    return bool(parameters.get("damped", True))


def index(interactions: DataFrame, damped: bool = True) -> tuple[DataFrame, DataFrame, DataFrame]:
    """(visitor, item, rating) as ALS takes them, visitors (visitor_id, visitor), items (item_id, item), all cached."""
    ratings = interactions.filter(F.col("weight") > 0).select("visitor_id", "item_id", "weight")
    visitors = _index(ratings, "visitor_id", "visitor").cache()
    items = _index(ratings, "item_id", "item").cache()
    indexed = (
        ratings.join(visitors, on="visitor_id", how="inner")
        .join(items, on="item_id", how="inner")
        # The hundredth view of a page tells less than the second; stars are what they are.
        .select("visitor", "item", (F.log1p("weight") if damped else F.col("weight")).cast("float").alias("rating"))
        .cache()
    )
    return indexed, visitors, items


def estimator(parameters: Parameters, size: int) -> ALS:
    """MLlib's ALS for `size` ratings. Its blocks are a function of the data alone: sums depend on them, and must not
    depend on the machine."""
    blocks = 1 + size // _INTERACTIONS_PER_BLOCK
    return ALS(
        userCol="visitor",
        itemCol="item",
        ratingCol="rating",
        coldStartStrategy="drop",
        implicitPrefs=not parameters.get("explicit"),
        rank=parameters["rank"],
        maxIter=parameters["iterations"],
        regParam=parameters["regularization"],
        alpha=parameters.get("alpha", 1.0),
        seed=parameters["seed"],
        numUserBlocks=blocks,
        numItemBlocks=blocks,
        checkpointInterval=4,
    )


def _index(ratings: DataFrame, name: str, index: str) -> DataFrame:
    """Each id's place in the sorted order of all: dense integers, as ALS needs them."""
    return (
        ratings.select(name).distinct().withColumn(index, (F.row_number().over(Window.orderBy(name)) - 1).cast("int"))
    )


def explicit_grid(interactions: DataFrame, jobs: int, few: int = _FEW) -> dict[str, Any]:
    """The grid's parameters of the least RMSE, in a cross-validation; with more than `few` pairs on a single split.
    Folds and partitions are hashes of the pairs, so that the same pairs give the same."""
    indexed, _, _ = index(interactions)
    folded = indexed.withColumn("fold", F.pmod(F.xxhash64("visitor", "item"), F.lit(_FOLDS)).cast("int")).persist()
    count = folded.count()
    fixed = estimator({**_DEFAULTS, "explicit": True}, count)
    grid = ParamGridBuilder().addGrid(fixed.rank, [*_GRID["rank"]])
    grid = grid.addGrid(fixed.regParam, [*_GRID["regularization"]])
    rmse = RegressionEvaluator(metricName="rmse", labelCol="rating", predictionCol="prediction")
    choices = grid.build()
    tried: dict[str, Any] = {
        "estimator": fixed,
        "estimatorParamMaps": choices,
        "evaluator": rmse,
        "parallelism": jobs,
    }
    if count <= few:
        errors = CrossValidator(**tried, numFolds=_FOLDS, foldCol="fold").fit(folded).avgMetrics
    else:
        pairs = folded.repartition(_PARTITIONS, "visitor", "item")
        errors = TrainValidationSplit(**tried, trainRatio=1 - 1 / _FOLDS, seed=_SEED).fit(pairs).validationMetrics
    errors = [float("inf") if math.isnan(error) else error for error in errors]
    best = choices[errors.index(min(errors))]
    return {"rank": best[fixed.rank], "regularization": best[fixed.regParam]}


def _fit(data: TrainingSet, parameters: dict[str, Any]) -> Model | None:
    """As `fit`; all trials of a search share what `index` gives."""
    damped = _is_damped(parameters)
    key = index, damped
    if key not in data.cache:
        data.cache[key] = index(data.interactions, damped)
    return _fit_indexed(data.cache[key], parameters)


IMPLICIT = Algorithm(
    {**_DEFAULTS, "alpha": 3.0},
    {
        "rank": Choices((8, 16, 32)),
        "regularization": Range(0.01, 1.0, grid=(0.1,)),
        "alpha": Range(1.0, 40.0, grid=(3.0,)),
    },
    _fit,
    load,
)
EXPLICIT = Algorithm(
    {**_DEFAULTS, "explicit": True, "damped": True},
    {"damped": Choices((True, False)), **{name: Choices(tuple(values)) for name, values in _GRID.items()}},
    _fit,
    load,
    tune=explicit_grid,
)
