"""Candidates in the order of their chance to be clicked. DataFrames in, DataFrames out.

Each candidate gets the features that an impression of it would have at that moment, at one and the same place for all:
what a model has learnt of places plays no part in the order.
"""

from __future__ import annotations

from collections.abc import Sequence

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from processing import covisits, feature_values
from processing.feature_definitions import COVISIT, ITEM, PAIR, VISITOR, Feature, season
from processing.features import PRIOR_CLICK_RATE
from processing.training.classifiers import Classifier
from processing.training.outcomes import PLACE

DEPTH = 3  # candidates for each place of a list
_OF_VISITORS = ("device_type", "last_item_id")


def reorder(candidates: DataFrame, model: Classifier, n: int) -> DataFrame:
    """(visitor_id, rank, item_id, score): the first `n` of each visitor by the probability that `model` gives them.

    `candidates`: what `described` gives. Ties keep their order.
    """
    best = Window.partitionBy("visitor_id").orderBy(F.col("score").desc(), "rank")
    scored = model.score(candidates).select("visitor_id", "rank", "item_id", F.round("probability", 9).alias("score"))
    return (
        scored.withColumn("place", F.row_number().over(best) - 1)
        .filter(F.col("place") < n)
        .select("visitor_id", F.col("place").alias("rank"), "item_id", "score")
    )


def described(
    candidates: DataFrame, items: DataFrame, visitors: DataFrame, together: DataFrame, seen: DataFrame, at: int
) -> DataFrame:
    """The candidates (visitor_id, rank, item_id) with all columns that outcomes' models know, as of `at`, in
    milliseconds since 1970.

    `items`, `visitors` and `together`: the batch's rows of item_features, visitor_features and covisits, made at the
    same moment; `seen`: what `features.occurrences` gives.
    """
    pairs = feature_values.snapshot(
        seen.join(candidates.select("visitor_id", "item_id"), on=["visitor_id", "item_id"], how="left_semi"),
        ["visitor_id", "item_id"],
        PAIR,
        at,
    )
    moment = {name: F.lit(value) for name, value in season(at).items()}
    known = (
        candidates.join(_named(items, ["item_id"], ITEM, "item_"), on="item_id", how="left")
        .join(_named(visitors, ["visitor_id"], VISITOR, "visitor_", *_OF_VISITORS), on="visitor_id", how="left")
        .join(_named(pairs, ["visitor_id", "item_id"], PAIR, "pair_"), on=["visitor_id", "item_id"], how="left")
        .join(together.drop("batch", "as_of"), on=list(covisits.PAIR), how="left")
        .withColumns({**moment, PLACE: F.lit(PRIOR_CLICK_RATE)})
    )
    known = feature_values.without_history(known, PAIR, "pair_")
    return feature_values.without_history(known, COVISIT, covisits.PREFIX)


def _named(rows: DataFrame, key: Sequence[str], features: Sequence[Feature], prefix: str, *more: str) -> DataFrame:
    return rows.select(*key, *more, *[F.col(one.name).alias(f"{prefix}{one.name}") for one in features])
