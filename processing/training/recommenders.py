"""Recommenders behind one interface: a recipe is fitted to a training set, and its model ranks items for visitors.

als, als_explicit   matrix factorisation                                   processing/training/als.py
cooccurrence, ease, sessions   weights between pairs of items              processing/training/item_weights.py
popular             what most people met within the last days
blend               several of them, by weighted reciprocal rank fusion (Cormack, Clarke, Buettcher 2009)

The same training set and recipe give the same lists, however the rows are ordered.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import reduce
from typing import Any, Protocol

from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from infra.errors import ConfigurationError
from processing import recommend
from processing.training import als, item_weights
from processing.training.item_weights import ItemWeights, Profile
from processing.training.recipe import Parameters, Recipe

CANDIDATES = 50  # of each member of a blend
_FUSION = 60  # Cormack et al.: how little the first ranks stand out


@dataclass(frozen=True)
class TrainingSet:
    """What is known at `as_of`: `interactions` (visitor_id, item_id, weight, last_at) and the `visits` that they sum
    up (visitor_id, item_id, occurred_at). A visit ends with a pause longer than `gap`."""

    interactions: DataFrame
    visits: DataFrame
    as_of: datetime
    gap: timedelta


class Model(Protocol):
    """A fitted recommender."""

    def top(self, visitors: DataFrame, seen: DataFrame, n: int) -> DataFrame:
        """(visitor_id, rank from 0, item_id, score): at most `n` items for each of `visitors` of whom it knows enough.

        `seen`: (visitor_id, item_id, weight, last_at), what each has met: not in the list, but what it is made from.
        """

    def save(self, url: str) -> None:
        """Writes the model below `url`, in place of what a run that died may have left there."""


@dataclass(frozen=True)
class Popular:
    """`ranked`: (rank, item_id, score), the same for everybody."""

    ranked: DataFrame

    def top(self, visitors: DataFrame, seen: DataFrame, n: int) -> DataFrame:
        return recommend.unseen_popular(visitors, self.ranked, seen, n)

    def save(self, url: str) -> None:
        self.ranked.coalesce(1).write.mode("overwrite").parquet(f"{url}/ranked")


@dataclass(frozen=True)
class Blend:
    """Members with their weights; each gives its first CANDIDATES."""

    members: tuple[tuple[Model, float], ...]

    def top(self, visitors: DataFrame, seen: DataFrame, n: int) -> DataFrame:
        lists = [(model.top(visitors, seen, max(n, CANDIDATES)), weight) for model, weight in self.members]
        return fuse(lists, n)

    def save(self, url: str) -> None:
        for number, (model, _) in enumerate(self.members):
            model.save(f"{url}/member={number}")


def fuse(lists: list[tuple[DataFrame, float]], n: int) -> DataFrame:
    """(visitor_id, rank, item_id, score): by the sum over the lists of weight / (60 + place from 1), ties by item."""
    parts = [
        rows.select("visitor_id", "item_id", (F.lit(float(weight)) / (F.col("rank") + 1 + _FUSION)).alias("part"))
        for rows, weight in lists
    ]
    best = Window.partitionBy("visitor_id").orderBy(F.col("score").desc(), "item_id")
    return (
        reduce(DataFrame.unionByName, parts)
        .groupBy("visitor_id", "item_id")
        .agg(F.round(F.sum("part"), 9).alias("score"))
        .withColumn("rank", F.row_number().over(best) - 1)
        .filter(F.col("rank") < n)
        .select("visitor_id", "rank", "item_id", "score")
    )


def fit(data: TrainingSet, recipe: Recipe) -> Model | None:
    """None when there is nothing to learn from. A parameter that is not given has its default."""
    if recipe.algorithm == BLEND:
        members = [(fit(data, Recipe.from_dict(m)), float(m["weight"])) for m in recipe.parameters["members"]]
        known = tuple((model, weight) for model, weight in members if model is not None)
        return Blend(known) if len(known) == len(members) else None
    return _algorithm(recipe).fit(data, dict(complete(recipe).parameters))


def load(spark: SparkSession, recipe: Recipe, url: str) -> Model:
    """The model of `recipe` that `save` wrote below `url`."""
    if recipe.algorithm == BLEND:
        members = enumerate(recipe.parameters["members"])
        return Blend(tuple((load(spark, Recipe.from_dict(m), f"{url}/member={n}"), m["weight"]) for n, m in members))
    return _algorithm(recipe).load(spark, dict(complete(recipe).parameters), url)


def complete(recipe: Recipe) -> Recipe:
    """With all its parameters, those not given by default: so that it means the same when defaults have changed.

    Raises ConfigurationError for an algorithm that there is not, or a parameter that it has not.
    """
    if recipe.algorithm == BLEND:
        members = [
            complete(Recipe.from_dict(m)).to_dict() | {"weight": m["weight"]} for m in recipe.parameters["members"]
        ]
        return Recipe(BLEND, {"members": members})
    defaults = _algorithm(recipe).defaults
    if unknown := recipe.parameters.keys() - defaults.keys():
        raise ConfigurationError([f"{recipe.algorithm} has no parameter {', '.join(sorted(unknown))}"])
    return Recipe(recipe.algorithm, {**defaults, **recipe.parameters})


def _algorithm(recipe: Recipe) -> Algorithm:
    if recipe.algorithm not in ALGORITHMS:
        known = ", ".join((*ALGORITHMS, BLEND))
        raise ConfigurationError([f"no recommender is called {recipe.algorithm!r}; there are {known}"])
    return ALGORITHMS[recipe.algorithm]


@dataclass(frozen=True)
class Algorithm:
    """How one is fitted and loaded, with all its parameters; `defaults` did well on simulated shoppers."""

    defaults: Parameters
    fit: Callable[[TrainingSet, dict[str, Any]], Model | None]
    load: Callable[[SparkSession, dict[str, Any], str], Model]


def _fit_als(data: TrainingSet, parameters: dict[str, Any]) -> Model | None:
    return als.fit(data.interactions, als.Recipe(**parameters))


def _load_als(spark: SparkSession, parameters: dict[str, Any], url: str) -> Model:
    return als.load(spark, url)


def _by_weights(
    defaults: Parameters,
    learn: Callable[[TrainingSet, dict[str, Any]], DataFrame | None],
    shape: Callable[[dict[str, Any]], tuple[Profile, float]],
) -> Algorithm:
    """An algorithm that learns weights between items; `shape` gives profile and half-life of its models."""

    def fit_weights(data: TrainingSet, parameters: dict[str, Any]) -> Model | None:
        weights = learn(data, parameters)
        known = weights.persist() if weights is not None else None
        return None if known is None or known.isEmpty() else ItemWeights(known, *shape(parameters))

    def load_weights(spark: SparkSession, parameters: dict[str, Any], url: str) -> Model:
        return ItemWeights(item_weights.load(spark, url), *shape(parameters))

    return Algorithm(defaults, fit_weights, load_weights)


def _fit_popular(data: TrainingSet, parameters: dict[str, Any]) -> Model | None:
    ranked = popularity(data, parameters["window_days"]).persist()
    return None if ranked.isEmpty() else Popular(ranked)


def popularity(data: TrainingSet, window_days: float = 0.0) -> DataFrame:
    """(rank, item_id, score): the summed weights of all interactions, or with `window_days` the visits of the last
    days before `as_of`; long enough for lists of whoever has met up to als.MAX_SEEN items."""
    if window_days:
        since = F.lit(data.as_of - timedelta(days=window_days))
        counted = data.visits.filter(F.col("occurred_at") >= since).groupBy("item_id").agg(F.count("*").alias("sum"))
    else:
        counted = data.interactions.groupBy("item_id").agg(F.sum("weight").alias("sum"))
    items = counted.select("item_id", F.round(F.col("sum").cast("double"), 6).alias("popularity"))
    return recommend.popular(items, CANDIDATES + als.MAX_SEEN)


_ALS = {"rank": 16, "iterations": 8, "regularization": 0.1, "seed": 42}
ALGORITHMS: Mapping[str, Algorithm] = {
    "als": Algorithm({**_ALS, "alpha": 3.0}, _fit_als, _load_als),
    "ease": _by_weights(
        {"regularization": 100.0, "weighted": False, "max_items": 2_000},
        lambda data, parameters: item_weights.ease(data.interactions, **parameters),
        lambda parameters: ("weights" if parameters["weighted"] else "ones", 0.0),
    ),
    "cooccurrence": _by_weights(
        {"similarity": "jaccard", "half_life_days": 0.0},
        lambda data, parameters: item_weights.cooccurrence(data.interactions, parameters["similarity"]),
        lambda parameters: ("weights", parameters["half_life_days"]),
    ),
    "sessions": _by_weights(
        {"steps": 5, "half_life_days": 30.0, "backward": 0.5},
        lambda data, parameters: item_weights.sessions(data.visits, data.as_of, data.gap, **parameters),
        lambda parameters: ("recency", 0.0),
    ),
    "popular": Algorithm(
        {"window_days": 0.0}, _fit_popular, lambda spark, _, url: Popular(spark.read.parquet(f"{url}/ranked"))
    ),
    "als_explicit": Algorithm({**_ALS, "explicit": True}, _fit_als, _load_als),
}
BLEND = "blend"
