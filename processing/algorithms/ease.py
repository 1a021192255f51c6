"""ease: EASE^R on the items that most visitors met; Steck, Embarrassingly Shallow Autoencoders for Sparse Data (2019).

Its closed form is computed on the driver, whose memory grows with the square of `max_items`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from processing.algorithms.interface import Choices, Range, TrainingSet
from processing.algorithms.item_weights import NEIGHBOURS, PROFILE, by_weights, newest, pairs

Matrix = npt.NDArray[np.float64]


def ridge(gram: Matrix, regularization: float) -> Matrix:
    """B (items x items), zero on its diagonal, for which X B is closest to X, with `regularization` times |B|^2
    added; `gram` is X'X. Steck's equation 8."""
    inverse = np.linalg.inv(gram + regularization * np.eye(len(gram)))
    weights = inverse / -np.diag(inverse)
    np.fill_diagonal(weights, 0.0)
    return weights


def gram(interactions: DataFrame, weighted: bool, max_items: int) -> tuple[list[str], Matrix]:
    """The `max_items` items that most visitors met, sorted, and X'X (items x items) of the visitors x items matrix X.

    `weighted`: X has log weights instead of ones. Of a visitor the PROFILE newest items count.
    """
    met = newest(interactions, PROFILE).filter(F.col("weight") > 0)
    frequent = met.groupBy("item_id").agg(F.count("*").alias("alone"))
    rows = frequent.orderBy(F.col("alone").desc(), "item_id").limit(max_items).collect()
    names = sorted(row["item_id"] for row in rows)
    matrix = np.zeros((len(names), len(names)))
    if names:
        index = pa.table({"item_id": names, "index": np.arange(len(names), dtype=np.int32)})
        value = F.log1p("weight") if weighted else F.lit(1.0)
        indexed = met.join(F.broadcast(interactions.sparkSession.createDataFrame(index)), on="item_id", how="inner")
        found = pairs(indexed.select("visitor_id", F.col("index").alias("item_id"), value.alias("value"))).toArrow()
        matrix[found["item_id"].to_numpy(), found["other_id"].to_numpy()] = found["both"].to_numpy()
    return names, matrix


def ease(data: TrainingSet, regularization: float, weighted: bool, max_items: int) -> DataFrame | None:
    """(item_id, other_id, weight); None without any items."""
    key = "ease", weighted, max_items
    if key not in data.cache:
        data.cache[key] = gram(data.interactions, weighted, max_items)
    names, matrix = data.cache[key]
    if not names:
        return None
    rows = _largest(ridge(matrix, regularization), names)
    return data.interactions.sparkSession.createDataFrame(rows, "item_id STRING, other_id STRING, weight DOUBLE")


def _largest(weights: Matrix, names: list[str]) -> pa.Table:
    """The NEIGHBOURS weights of each row that are largest in size, of either sign."""
    kept = np.argsort(-np.abs(weights), axis=1, kind="stable")[:, :NEIGHBOURS]
    rows = np.repeat(np.arange(len(names)), kept.shape[1])
    columns = kept.ravel()
    ids = np.asarray(names, dtype=object)
    values = np.round(weights[rows, columns], 9)
    some = values != 0
    return pa.table(
        {"item_id": pa.array(ids[rows[some]]), "other_id": pa.array(ids[columns[some]]), "weight": values[some]}
    )


def _learn(data: TrainingSet, parameters: dict[str, Any]) -> DataFrame | None:
    return ease(data, **parameters)


EASE = by_weights(
    {"regularization": 100.0, "weighted": False, "max_items": 2_000},
    {
        "regularization": Range(1.0, 2_000.0, grid=(100.0, 350.0, 800.0)),
        "weighted": Choices((False, True)),
    },
    _learn,
    lambda parameters: ("weights" if parameters["weighted"] else "ones", 0.0),
)
