"""Matrix factorisation of ratings: Zhou et al., Large-scale parallel collaborative filtering for the Netflix Prize
(2008), by MLlib's ALS, behind the interface of the other recommenders. Needs an active Spark session.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyspark.ml.recommendation import ALS
from pyspark.sql import DataFrame, SparkSession

from processing.training.item_models import Matrix, Met, Parameters


class Als:
    """What a rating is expected to be: a user's factors times an item's. Its one choice of parameters is that of
    Microsoft Recommenders' published comparison."""

    grid: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        "rank": (10,),
        "regularization": (0.05,),
        "iterations": (15,),
        "seed": (42,),
    }

    def __init__(self, met: Met, parameters: Parameters) -> None:
        rows = pa.table({"user": met.users, "item": met.items, "rating": met.values})
        als = ALS(
            userCol="user",
            itemCol="item",
            ratingCol="rating",
            rank=parameters["rank"],
            regParam=parameters["regularization"],
            maxIter=parameters["iterations"],
            seed=parameters["seed"],
        )
        model = als.fit(SparkSession.active().createDataFrame(rows).coalesce(1))
        n_users = int(met.users.max(initial=-1)) + 1
        self._users = _dense(model.userFactors, n_users, parameters["rank"])
        self._items = _dense(model.itemFactors, met.n_items, parameters["rank"])

    def scores(self, users: npt.NDArray[np.int64]) -> Matrix:
        """Minus infinity for an item that nobody met: it has no factors."""
        scores: Matrix = self._users[users] @ self._items.T
        return np.where(np.isnan(scores), -np.inf, scores)

    def predict(self, users: npt.NDArray[np.int64], items: npt.NDArray[np.int64]) -> Matrix:
        predicted: Matrix = np.einsum("ij,ij->i", self._users[users], self._items[items])
        return predicted


def _dense(factors: DataFrame, n: int, rank: int) -> Matrix:
    """(n x rank), NaN where there are no factors."""
    rows = factors.toArrow()
    matrix = np.full((n, rank), np.nan)
    if len(rows):
        matrix[rows["id"].to_numpy()] = np.array(rows["features"].to_pylist())
    return matrix
