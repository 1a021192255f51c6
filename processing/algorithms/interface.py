"""Interface of all recommenders: an Algorithm fits a TrainingSet and gives a Model, which ranks items for visitors.

The same training set and parameters give the same lists, however the rows are ordered.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol, runtime_checkable

from pyspark.sql import DataFrame, SparkSession

Parameters = Mapping[str, Any]

# Longer lists cost more than they bring: who has met more items is filled up with popular ones.
MAX_SEEN = 1000


@dataclass(frozen=True)
class TrainingSet:
    """Data known at `as_of`: `interactions` (visitor_id, item_id, weight, last_at) and the `visits` that they sum
    up (visitor_id, item_id, occurred_at). A session ends with a pause longer than `gap`.

    `cache` holds what algorithms derive from the rows alone, so that a search derives it once.
    """

    interactions: DataFrame
    visits: DataFrame
    as_of: datetime
    gap: timedelta
    cache: dict[Any, Any] = field(default_factory=dict, init=False, compare=False, repr=False)


class Model(Protocol):
    """A fitted recommender."""

    def top(self, visitors: DataFrame, seen: DataFrame, n: int) -> DataFrame:
        """(visitor_id, rank from 0, item_id, score): at most `n` items for each of `visitors` of whom it knows enough.

        `seen`: (visitor_id, item_id, weight, last_at), what each has met: not in the list, but what it is made from.
        """

    def save(self, url: str) -> None:
        """Writes the model below `url`, replacing what is there."""


@runtime_checkable
class RatingModel(Model, Protocol):
    """A model that also predicts ratings; a bench chooses its parameters by that."""

    def predict(self, pairs: DataFrame) -> DataFrame:
        """(visitor_id, item_id, prediction) of those of `pairs` whose visitor and item it knows."""


class NextItem(Protocol):
    """Scores the items that may follow the beginning of a session; items are integers."""

    def scores(self, beginning: Sequence[int]) -> Mapping[int, float]:
        """Item -> score, higher is likelier; `beginning`, in order, has at least one item."""


@dataclass(frozen=True, slots=True)
class Choices:
    """The values that a parameter may have."""

    grid: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Range:
    """A number between `low` and `high`, on a logarithmic scale where `low` > 0; `grid`: what a grid search tries."""

    low: float
    high: float
    grid: tuple[float, ...]


@dataclass(frozen=True)
class Algorithm:
    """A recommender to be fitted, searched and loaded.

    `defaults`: all parameters, with the values that did well on simulated shoppers; `space`: what a search varies.
    `fit` gives None when there is nothing to learn from. `load` reads what the model's `save` wrote. `learn_sessions`
    learns from sessions of items alone, oldest first. `tune` chooses parameters from interactions (how many jobs at
    once), for an algorithm that the search does not vary.
    """

    defaults: Parameters
    space: Mapping[str, Choices | Range]
    fit: Callable[[TrainingSet, dict[str, Any]], Model | None]
    load: Callable[[SparkSession, dict[str, Any], str], Model]
    learn_sessions: Callable[[Sequence[Sequence[int]], dict[str, Any]], NextItem] | None = None
    tune: Callable[[DataFrame, int], dict[str, Any]] | None = None
