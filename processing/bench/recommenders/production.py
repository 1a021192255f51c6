"""Production's recommenders on ratings: fitted and asked for lists as jobs do. Needs an active Spark session."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession

from processing.algorithms import algorithm, recipes
from processing.algorithms.interface import Model, RatingModel, TrainingSet
from processing.algorithms.recipes import Recipe
from processing.bench.files import Ratings

Indices = npt.NDArray[np.int64]
_GAP = timedelta(minutes=30)
_MILLISECONDS = 1e11  # times beyond are in milliseconds


class Production:
    """One of ALGORITHMS; `grid` begins with its default parameters."""

    def __init__(self, name: str) -> None:
        self._name, known = name, algorithm(name)
        self.grid: Mapping[str, Sequence[Any]] = {
            key: tuple(dict.fromkeys((known.defaults[key], *values.grid))) for key, values in known.space.items()
        }

    def fit(self, train: Ratings, parameters: Mapping[str, Any]) -> Fitted:
        data = training_set(train)
        model = recipes.fit(data, Recipe(self._name, parameters))
        assert model is not None  # there are ratings
        return FittedRatings(train, data, model) if isinstance(model, RatingModel) else Fitted(train, data, model)


class Fitted:
    """A fitted model on the indices of users and items."""

    def __init__(self, train: Ratings, data: TrainingSet, model: Model) -> None:
        self._train, self._data, self._model = train, data, model

    def lists(self, users: Indices, k: int) -> Indices:
        """(len(users) x k): the model's lists, -1 where there are no more items. `users` ascend."""
        visitors = _frame({"visitor_id": _ids(users)})
        rows = self._model.top(visitors, self._data.interactions, k).select("visitor_id", "rank", "item_id").toArrow()
        ranked = np.full((len(users), k), -1)
        place = np.searchsorted(users, _indices(rows["visitor_id"]))
        ranked[place, rows["rank"].to_numpy()] = _indices(rows["item_id"])
        return ranked


class FittedRatings(Fitted):
    """A fitted model that predicts ratings."""

    def predict(self, users: Indices, items: Indices) -> npt.NDArray[np.float64]:
        """The rating expected of each pair, whose user and item are both in the train part."""
        assert isinstance(self._model, RatingModel)
        rows = self._model.predict(_frame({"visitor_id": _ids(users), "item_id": _ids(items)})).toArrow()
        known = dict(
            zip(
                zip(_indices(rows["visitor_id"]).tolist(), _indices(rows["item_id"]).tolist(), strict=True),
                rows["prediction"].to_pylist(),
                strict=True,
            )
        )
        mean = float(self._train.values.mean())  # of users or items that were only ever rated 0
        return np.array([known.get(pair, mean) for pair in zip(users.tolist(), items.tolist(), strict=True)])


@lru_cache(maxsize=2)  # of a part and of the part of it that parameters are chosen on
def training_set(ratings: Ratings) -> TrainingSet:
    """Ratings as what production learns from: a rating is an interaction's weight, and one visit."""
    times = np.zeros(len(ratings)) if ratings.times is None else ratings.times.astype(np.float64)
    times = times / 1000 if times.max(initial=0.0) > _MILLISECONDS else times
    rows = _frame(
        {
            "visitor_id": _ids(ratings.users),
            "item_id": _ids(ratings.items),
            "weight": ratings.values,
            "at": times,
        }
    ).selectExpr("visitor_id", "item_id", "weight", "timestamp_seconds(at) AS last_at")
    interactions = rows.persist()
    visits = interactions.selectExpr("visitor_id", "item_id", "last_at AS occurred_at")
    as_of = datetime.fromtimestamp(float(times.max(initial=0.0)) + 1, UTC)
    return TrainingSet(interactions, visits, as_of, _GAP)


def _frame(columns: Mapping[str, Any]) -> DataFrame:
    return SparkSession.active().createDataFrame(pa.table(dict(columns))).coalesce(2)


def _ids(indices: Indices) -> pa.Array:
    """Strings in the order of the indices, so that ties go by index."""
    return pa.array(np.char.zfill(indices.astype(str), 10).tolist())


def _indices(ids: pa.ChunkedArray) -> Indices:
    found: Indices = ids.cast(pa.int64()).to_numpy()
    return found
