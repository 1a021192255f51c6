"""Offline evaluation on a time split: recommenders and baselines side by side. DataFrames in; lists per user out.

Protocol. All interest events before `split_at` (the 80 % quantile of their times) are the training set, weighted as of
`split_at`. A user counts who has items there and afterwards meets at least one item that was known in training and that
this user had not met. These items are relevant. Candidates are all items known in training that the user has not met;
all contestants rank the same candidates for the same users, and a short list is filled up with popular items, as it is
where it is shown. Groups of their own are cold users, who came after the split and get popular items from everybody,
and items that were new then, which are on no list. What the numbers of such lists are, stands in comparison.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from processing.algorithms import popular as most_popular
from processing.algorithms.interface import TrainingSet
from processing.features import aggregates
from processing.ranking import fill
from processing.tables import event_times
from processing.tables.event_times import from_millis
from processing.training.comparison import POPULAR, K, User

QUANTILE = 0.8
MAX_USERS = 50_000  # at most; of more, those of the lowest hash: the same at every run
COLUMNS = ("visitor_id", "item_id", "event_type", "occurred_at", "device")  # of `events`


@dataclass(frozen=True)
class Holdout:
    """Before and after a split: what to learn from, and `users` (visitor_id, relevant, new_items, device, is_new,
    popular) who count; `popular` are the first 2 K popular items that each has not met. `cold`: (visitor_id, relevant)
    of those who came afterwards; `ranked`: the popular items (rank, item_id)."""

    split: datetime
    train: TrainingSet
    users: DataFrame
    cold: DataFrame
    ranked: DataFrame


def known(events: DataFrame, days: int, batch: int | None = None) -> tuple[DataFrame, datetime | None]:
    """The events of the last `days`, with COLUMNS, from which interactions are made too; and the time of the newest."""
    recent, as_of = event_times.lately(events, days, batch)
    return recent.select(*COLUMNS).persist(), as_of


def split_at(events: DataFrame, quantile: float = QUANTILE) -> datetime | None:
    """The time by which `quantile` of the interest events have happened; None without any."""
    millis = event_times.moment(aggregates.interests(events), F.unix_millis("occurred_at"), quantile)
    return None if millis is None else from_millis(millis)


def training_set(
    events: DataFrame, as_of: datetime, gap: timedelta, interactions: DataFrame | None = None
) -> TrainingSet:
    """What was known before `as_of`: the interactions, weighted as of then. With `interactions` given, all that was
    ever known: they are those of all `events`."""
    before = events if interactions is not None else events.filter(F.col("occurred_at") < F.lit(as_of))
    visits = aggregates.interests(before).select("visitor_id", "item_id", "occurred_at").persist()
    if interactions is None:
        interactions = aggregates.interactions(before, as_of).persist()
    return TrainingSet(interactions, visits, as_of, gap)


def hold_out(events: DataFrame, split: datetime, gap: timedelta) -> Holdout:
    """Splits `events` (COLUMNS) in two."""
    train = training_set(events, split, gap)
    relevant = _relevant(events, train.interactions, split).persist()
    ranked = most_popular.popularity(train)
    popular = most_popular.unseen(relevant, ranked, train.interactions, 2 * K)
    users = relevant.join(_segments(events, split), on="visitor_id", how="left")
    users = users.join(_as_array(popular, POPULAR), on="visitor_id", how="left").persist()
    return Holdout(split, train, users, _cold(events, train.interactions, split), ranked)


def _relevant(events: DataFrame, train: DataFrame, split: datetime) -> DataFrame:
    """(visitor_id, relevant, new_items: sorted arrays) of the users who count."""
    known = train.select("item_id").distinct().withColumn("known", F.lit(True))
    met = (
        _afterwards(events, split)
        .join(train.select("visitor_id").distinct(), on="visitor_id", how="left_semi")
        .join(train, on=["visitor_id", "item_id"], how="left_anti")
        .join(known, on="item_id", how="left")
    )
    old = F.col("known").isNotNull()
    return _some(
        met.groupBy("visitor_id")
        .agg(
            F.sort_array(F.collect_set(F.when(old, F.col("item_id")))).alias("relevant"),
            F.sort_array(F.collect_set(F.when(~old, F.col("item_id")))).alias("new_items"),
        )
        .filter(F.size("relevant") > 0)
    )


def _cold(events: DataFrame, train: DataFrame, split: datetime) -> DataFrame:
    """(visitor_id, relevant: sorted array) of visitors of whom nothing was known."""
    return _some(
        _afterwards(events, split)
        .join(train.select("visitor_id").distinct(), on="visitor_id", how="left_anti")
        .join(train.select("item_id").distinct(), on="item_id", how="left_semi")
        .groupBy("visitor_id")
        .agg(F.sort_array(F.collect_set("item_id")).alias("relevant"))
    )


def _afterwards(events: DataFrame, split: datetime) -> DataFrame:
    """(visitor_id, item_id): who met what after the split, each once."""
    interests = aggregates.interests(events).filter(F.col("occurred_at") >= F.lit(split))
    return interests.select("visitor_id", "item_id").distinct()


def _some(users: DataFrame) -> DataFrame:
    return users.orderBy(F.xxhash64("visitor_id"), "visitor_id").limit(MAX_USERS)


def _segments(events: DataFrame, split: datetime) -> DataFrame:
    """(visitor_id, device, is_new): the most frequent type of device, and whether they came on one day (UTC) only,
    both before the split."""
    before = events.filter((F.col("occurred_at") < F.lit(split)) & F.col("visitor_id").isNotNull())
    return before.groupBy("visitor_id").agg(
        F.coalesce(F.mode("device.type", deterministic=True), F.lit("unknown")).alias("device"),
        (F.count_distinct(F.to_date("occurred_at")) == 1).alias("is_new"),
    )


def listed_users(tops: Mapping[str, DataFrame | None], held: Holdout) -> list[User]:
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
        found.append(
            User(row["visitor_id"], row["relevant"], row["device"], row["is_new"], ranked, tuple(row["new_items"]))
        )
    return found


def cold_users(contestants: Sequence[str], held: Holdout) -> list[User]:
    """Those of whom nothing was known, sorted, with popular items on the list of each contestant."""
    top = held.ranked.filter(F.col("rank") < K).orderBy("rank").collect()
    lists = {name: [row["item_id"] for row in top] for name in contestants}
    rows = sorted(held.cold.collect(), key=lambda row: str(row["visitor_id"]))
    return [User(row["visitor_id"], row["relevant"], "unknown", True, lists) for row in rows]


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
