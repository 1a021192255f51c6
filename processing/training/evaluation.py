"""Offline evaluation on a time split, ALS beside popularity. DataFrames in; lists per user and numbers out.

Protocol. All interest events before `split_at` (the 80 % quantile of their times) are the training set, weighted as of
`split_at`. A user counts who has items there and afterwards meets at least one item that was known in training and that
this user had not met. These items are relevant. Candidates are all items known in training that the user has not met;
both algorithms rank the same candidates for the same users. The baseline is popularity in the training set.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from processing import features, recommend
from processing.features import from_millis
from processing.metrics import Estimate, bootstrap, ndcg_at_k, recall_at_k
from processing.training import als

K = 10
QUANTILE = 0.8
MAX_USERS = 50_000  # evaluated at most; beyond, those of the lowest hash: the same at every run


@dataclass(frozen=True, slots=True)
class Lists:
    """One user's relevant items and the first K of each algorithm."""

    relevant: list[str]
    learned: list[str]
    popular: list[str]


@dataclass(frozen=True, slots=True)
class Comparison:
    """recall@K and nDCG@K of both on the same `n_users`; `difference` is the paired one of nDCG@K, ALS - popularity."""

    n_users: int
    recall: Estimate
    ndcg: Estimate
    baseline_recall: Estimate
    baseline_ndcg: Estimate
    difference: Estimate

    @property
    def beats_baseline(self) -> bool | None:
        """Whether the whole interval of the difference lies above 0; None with nobody to compare on."""
        return None if self.difference.low is None else self.difference.low > 0


def split_at(events: DataFrame, quantile: float = QUANTILE) -> datetime | None:
    """When `quantile` of the interest events have happened; None without any."""
    times = features.interests(events).agg(F.percentile(F.unix_millis("occurred_at"), quantile))
    millis = times.collect()[0][0]
    return None if millis is None else from_millis(int(millis))


def training_set(events: DataFrame, split: datetime) -> DataFrame:
    """The interactions before `split`, weighted as of then."""
    return features.interactions(events.filter(F.col("occurred_at") < F.lit(split)), split)


def relevant_items(events: DataFrame, train: DataFrame, split: datetime) -> DataFrame:
    """(visitor_id, relevant: sorted array) of the users who count."""
    afterwards = features.interests(events).filter(F.col("occurred_at") >= F.lit(split))
    return (
        afterwards.select("visitor_id", "item_id")
        .distinct()
        .join(train.select("visitor_id").distinct(), on="visitor_id", how="left_semi")
        .join(train.select("item_id").distinct(), on="item_id", how="left_semi")
        .join(train, on=["visitor_id", "item_id"], how="left_anti")
        .groupBy("visitor_id")
        .agg(F.sort_array(F.collect_set("item_id")).alias("relevant"))
        .orderBy(F.xxhash64("visitor_id"), "visitor_id")
        .limit(MAX_USERS)
    )


def lists(factors: als.Factors, train: DataFrame, relevant: DataFrame) -> list[Lists]:
    """Both algorithms' first K for each user of `relevant`, sorted by user."""
    popularity = train.groupBy("item_id").agg(F.round(F.sum("weight"), 6).alias("popularity"))
    ranked = recommend.popular(popularity, K + als.MAX_SEEN)
    users = relevant.select("visitor_id")
    learned = _as_array(als.top(factors, users, train, K), "learned")
    baseline = _as_array(recommend.unseen_popular(users, ranked, train, K), "popular")
    rows = (
        relevant.join(learned, on="visitor_id", how="left")
        .join(baseline, on="visitor_id", how="left")
        .orderBy("visitor_id")
        .collect()
    )
    return [Lists(list(row.relevant), list(row.learned or ()), list(row.popular or ())) for row in rows]


def compare(users: list[Lists]) -> Comparison:
    """The metrics of each user, averaged, with bootstrap intervals over users."""
    ndcg = [ndcg_at_k(user.learned, user.relevant, K) for user in users]
    baseline = [ndcg_at_k(user.popular, user.relevant, K) for user in users]
    return Comparison(
        n_users=len(users),
        recall=bootstrap([recall_at_k(user.learned, user.relevant, K) for user in users]),
        ndcg=bootstrap(ndcg),
        baseline_recall=bootstrap([recall_at_k(user.popular, user.relevant, K) for user in users]),
        baseline_ndcg=bootstrap(baseline),
        difference=bootstrap([ours - theirs for ours, theirs in zip(ndcg, baseline, strict=True)]),
    )


def rows(compared: Comparison, model_version: str, split_at_millis: int | None) -> list[dict[str, Any]]:
    """Rows of `evaluations` but for `batch`: one for each algorithm."""
    shared = {
        "k": K,
        "n_users": compared.n_users,
        "split_at": None if split_at_millis is None else from_millis(split_at_millis),
    }
    ours = {
        "algorithm": "als",
        "model_version": model_version,
        "ndcg_over_baseline": compared.difference.mean,
        "ndcg_over_baseline_interval": compared.difference.interval,
    }
    return [
        shared | ours | _numbers(compared.recall, compared.ndcg),
        shared | {"algorithm": "popular"} | _numbers(compared.baseline_recall, compared.baseline_ndcg),
    ]


def _numbers(recall: Estimate, ndcg: Estimate) -> dict[str, Any]:
    return {
        "recall": recall.mean,
        "recall_interval": recall.interval,
        "ndcg": ndcg.mean,
        "ndcg_interval": ndcg.interval,
    }


def _as_array(ranked: DataFrame, name: str) -> DataFrame:
    """(visitor_id, `name`: item ids by rank)."""
    pairs = F.sort_array(F.collect_list(F.struct("rank", "item_id")))
    return ranked.groupBy("visitor_id").agg(pairs.getField("item_id").alias(name))
