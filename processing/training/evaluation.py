"""Offline evaluation on a time split: recommenders and baselines side by side. DataFrames in; lists per user out.

Protocol. All interest events before `split_at` (the 80 % quantile of their times) are the training set, weighted as of
`split_at`. A user counts who has items there and afterwards meets at least one item that was known in training and that
this user had not met. These items are relevant. Candidates are all items known in training that the user has not met;
all contestants rank the same candidates for the same users, and a short list is filled up with popular items, as it is
where it is shown. What the numbers of such lists are, stands in comparison.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from processing import features, recommend
from processing.features import from_millis
from processing.ranking import fill
from processing.training import recommenders
from processing.training.comparison import POPULAR, K, User
from processing.training.recommenders import TrainingSet

QUANTILE = 0.8
MAX_USERS = 50_000  # evaluated at most; beyond, those of the lowest hash: the same at every run
COLUMNS = ("visitor_id", "item_id", "event_type", "occurred_at", "device")  # of `events`


@dataclass(frozen=True)
class Holdout:
    """Before and after a split: what to learn from, and `users` (visitor_id, relevant, device, is_new, popular) who
    count; `popular` are the first 2 K popular items that each has not met."""

    split: datetime
    train: TrainingSet
    users: DataFrame


def known(events: DataFrame, days: int) -> tuple[DataFrame, datetime | None]:
    """Those of the `events` that interactions are made of too, with COLUMNS, and the time of the newest."""
    recent, as_of = features.lately(events, days)
    return recent.select(*COLUMNS).persist(), as_of


def split_at(events: DataFrame, quantile: float = QUANTILE) -> datetime | None:
    """When `quantile` of the interest events have happened; None without any."""
    millis = features.moment(features.interests(events), F.unix_millis("occurred_at"), quantile)
    return None if millis is None else from_millis(millis)


def training_set(
    events: DataFrame, as_of: datetime, gap: timedelta, interactions: DataFrame | None = None
) -> TrainingSet:
    """What was known before `as_of`: the interactions, weighted as of then. With `interactions` given, all that was
    ever known: they are those of all `events`."""
    before = events if interactions is not None else events.filter(F.col("occurred_at") < F.lit(as_of))
    visits = features.interests(before).select("visitor_id", "item_id", "occurred_at").persist()
    if interactions is None:
        interactions = features.interactions(before, as_of).persist()
    return TrainingSet(interactions, visits, as_of, gap)


def hold_out(events: DataFrame, split: datetime, gap: timedelta) -> Holdout:
    """Splits `events` (COLUMNS) in two."""
    train = training_set(events, split, gap)
    relevant = _relevant(events, train.interactions, split).persist()
    ranked = recommenders.popularity(train)
    popular = recommend.unseen_popular(relevant, ranked, train.interactions, 2 * K)
    users = relevant.join(_segments(events, split), on="visitor_id", how="left")
    return Holdout(split, train, users.join(_as_array(popular, POPULAR), on="visitor_id", how="left").persist())


def _relevant(events: DataFrame, train: DataFrame, split: datetime) -> DataFrame:
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


def _segments(events: DataFrame, split: datetime) -> DataFrame:
    """(visitor_id, device, is_new): the most frequent type of device, and whether they came on one day (UTC) only,
    both before the split."""
    before = events.filter((F.col("occurred_at") < F.lit(split)) & F.col("visitor_id").isNotNull())
    return before.groupBy("visitor_id").agg(
        F.coalesce(F.mode("device.type", deterministic=True), F.lit("unknown")).alias("device"),
        (F.count_distinct(F.to_date("occurred_at")) == 1).alias("is_new"),
    )


def lists(tops: Mapping[str, DataFrame | None], held: Holdout) -> list[User]:
    """The users who count, sorted, with the first K of each contestant of `tops` and of popularity; None: no model."""
    rows = held.users
    for name, top in tops.items():
        if top is not None:
            rows = rows.join(_as_array(top, f"of_{name}"), on="visitor_id", how="left")
    found = []
    for row in sorted(rows.collect(), key=lambda row: str(row["visitor_id"])):
        popular = row[POPULAR] or []
        ranked = {name: fill((row[f"of_{name}"] or []) if top else [], popular, K) for name, top in tops.items()}
        ranked[POPULAR] = popular[:K]
        found.append(User(row["visitor_id"], row["relevant"], row["device"], row["is_new"], ranked))
    return found


def shares(held: Holdout, users: list[User]) -> tuple[dict[str, float], int]:
    """Item -> the share of the training set's visitors who met it, of the items on any list; and the number of items
    that are known."""
    shown = sorted({item for user in users for ranked in user.lists.values() for item in ranked})
    train = held.train.interactions
    visitors, items = train.agg(F.count_distinct("visitor_id"), F.count_distinct("item_id")).collect()[0]
    rows = train.filter(F.col("item_id").isin(shown)).groupBy("item_id").count().collect() if shown else []
    return {row["item_id"]: row["count"] / visitors for row in rows}, items


def _as_array(ranked: DataFrame, name: str) -> DataFrame:
    """(visitor_id, `name`: item ids by rank)."""
    pairs = F.sort_array(F.collect_list(F.struct("rank", "item_id")))
    return ranked.groupBy("visitor_id").agg(pairs.getField("item_id").alias(name))
