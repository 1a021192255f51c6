"""LambdaMART (Burges 2010) by XGBoost: trees that learn what lists are worth. Arrays and DataFrames in.

A ranker begins with the order that a recommender gave (the margin) and corrects it by what it has learnt: with little
to learn from, the order stays. It learns in this process, from at most MAX_LISTS lists, and ranks on executors.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from infra.errors import DependencyError
from processing.algorithms.recipes import Recipe
from processing.training.metrics import Estimate, bootstrap_ratio, ndcg_at_k

RECIPE = Recipe(
    "lambdamart",
    {
        **{"rounds": 40, "eta": 0.1, "max_depth": 3, "min_child_weight": 5},
        **{"lambdarank_pair_method": "topk", "lambdarank_num_pair_per_sample": 10},
    },
)
MAX_LISTS = 20_000  # of more, those of the visitors with the lowest hash
_PRIOR = 0.5  # how much a doubled rank of the recommender counts at the beginning
_SEED = 42
Matrix = npt.NDArray[np.float32]
Scores = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Lists:
    """Rows of lists, list by list, each in the recommender's order: `features` (rows x columns, NaN where unknown),
    `ranks` from 0, `labels` 0 or 1; `lists` numbers the list of each row, `visitors` the visitor of each list."""

    features: Matrix
    ranks: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64]
    lists: npt.NDArray[np.int64]
    visitors: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.visitors)


def collect(rows: DataFrame, features: Sequence[str]) -> Lists:
    """`rows`: (visitor_id, list, item_id, rank, label, each of `features`); only lists with both labels tell anything,
    and others are left out."""
    of_list = Window.partitionBy("visitor_id", "list")
    both = (F.min("label").over(of_list) == 0) & (F.max("label").over(of_list) == 1)
    keys = ["visitor_id", "list", "rank", "item_id"]
    known = rows.withColumn("_both", both).filter("_both").select(*keys, "label", *features)
    table = known.toArrow().sort_by([(key, "ascending") for key in keys])
    visitors = _numbers(table["visitor_id"])
    starts = _changes(visitors, _numbers(table["list"]))
    return Lists(
        _matrix(table, features),
        table["rank"].to_numpy().astype(np.int64),
        table["label"].to_numpy().astype(np.int64),
        np.cumsum(starts) - 1,
        visitors[starts],
    )


def joined(parts: Sequence[Lists]) -> Lists:
    """All lists of the parts, one part after the other."""
    before = np.cumsum([0, *(len(part) for part in parts)])
    return Lists(
        np.concatenate([part.features for part in parts]),
        np.concatenate([part.ranks for part in parts]),
        np.concatenate([part.labels for part in parts]),
        np.concatenate([part.lists + offset for part, offset in zip(parts, before[:-1], strict=True)]),
        np.concatenate([part.visitors for part in parts]),
    )


def fit(lists: Lists, recipe: Recipe) -> bytes:
    """The trees, as XGBoost's UBJSON. Raises DependencyError where it is missing."""
    xgboost = _xgboost()
    parameters = {**recipe.parameters, "objective": "rank:ndcg", "tree_method": "hist", "seed": _SEED, "nthread": 2}
    rounds = parameters.pop("rounds")
    data = xgboost.DMatrix(lists.features, label=lists.labels, qid=lists.lists, base_margin=margin(lists.ranks))
    return bytes(xgboost.train(parameters, data, rounds).save_raw("ubj"))


def margin(ranks: npt.NDArray[Any]) -> Scores:
    """What a ranker begins with: the lower the rank, the more."""
    found: Scores = -_PRIOR * np.log2(ranks + 2.0)
    return found


def score(trees: bytes, features: Matrix, ranks: npt.NDArray[Any]) -> Scores:
    """One number a row; within a list, the highest comes first."""
    return _score(_load(trees), features, ranks)


def importances(trees: bytes, features: Sequence[str]) -> dict[str, float]:
    """Feature -> its share of the gain, the largest first."""
    gains = _load(trees).get_score(importance_type="total_gain")
    whole = sum(gains.values()) or 1.0
    shares = {features[int(name.removeprefix("f"))]: round(gain / whole, 6) for name, gain in gains.items()}
    return dict(sorted(shares.items(), key=lambda pair: -pair[1]))


def reorder(candidates: DataFrame, trees: bytes, features: Sequence[str], n: int) -> DataFrame:
    """(visitor_id, rank, item_id, score): the first `n` of each visitor. `candidates`: (visitor_id, rank, item_id, each
    of `features`); ties keep their order."""

    def scored(batches: Iterable[pa.RecordBatch]) -> Iterable[pa.RecordBatch]:
        booster = _load(trees)
        for batch in batches:
            rows = pa.Table.from_batches([batch])
            scores = np.round(_score(booster, _matrix(rows, features), rows["rank"].to_numpy()), 6)
            yield from rows.select(keys).append_column("score", pa.array(scores, pa.float64())).to_batches()

    keys = ["visitor_id", "item_id", "rank"]
    best = Window.partitionBy("visitor_id").orderBy(F.col("score").desc(), "rank")
    return (
        candidates.select(*keys, *features)
        .mapInArrow(scored, "visitor_id STRING, item_id STRING, rank INT, score DOUBLE")
        .withColumn("place", F.row_number().over(best) - 1)
        .filter(F.col("place") < n)
        .select("visitor_id", F.col("place").alias("rank"), "item_id", "score")
    )


def gain(lists: Lists, scores: Scores, k: int) -> Estimate:
    """By how much nDCG@k of the lists in the order of the scores lies above that of the recommender's order, as a mean
    over lists; the interval is over visitors."""
    ends = np.searchsorted(lists.lists, np.arange(len(lists) + 1))
    more = [
        _ndcg(lists.labels[at:end], -scores[at:end], k) - _ndcg(lists.labels[at:end], lists.ranks[at:end], k)
        for at, end in pairwise(ends)
    ]
    _, visitors = np.unique(lists.visitors, return_inverse=True)
    return bootstrap_ratio(np.bincount(visitors, weights=more).tolist(), np.bincount(visitors).tolist())


def _ndcg(labels: npt.NDArray[np.int64], order: npt.NDArray[Any], k: int) -> float:
    return ndcg_at_k(np.argsort(order, kind="stable").tolist(), np.flatnonzero(labels).tolist(), k)


def _score(booster: Any, features: Matrix, ranks: npt.NDArray[Any]) -> Scores:
    data = _xgboost().DMatrix(features, base_margin=margin(ranks), nthread=1)
    found: Scores = booster.predict(data, output_margin=True).astype(np.float64)
    return found


def _load(trees: bytes) -> Any:
    booster = _xgboost().Booster({"nthread": 1})
    booster.load_model(bytearray(trees))
    return booster


def _matrix(table: pa.Table, features: Sequence[str]) -> Matrix:
    columns = [table[name].cast(pa.float32()).to_numpy(zero_copy_only=False) for name in features]
    return np.column_stack(columns).astype(np.float32)


def _numbers(column: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    """A number for each value that is different."""
    codes = column.combine_chunks().dictionary_encode().indices
    return codes.to_numpy(zero_copy_only=False).astype(np.int64)  # type: ignore[no-any-return]


def _changes(*columns: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Whether a row differs from the one before it in any of the columns."""
    found = np.zeros(len(columns[0]), dtype=bool)
    found[:1] = True
    for column in columns:
        found[1:] |= column[1:] != column[:-1]
    return found


def _xgboost() -> Any:
    try:
        import xgboost
    except ImportError as error:
        raise DependencyError("ranking needs XGBoost: pip install 'clickstream[mlops]'") from error
    return xgboost
