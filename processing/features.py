"""What the data says of pairs, items and visitors, as of the data's own time. DataFrames in, DataFrames out.

An event's weight is its type's, halved for every HALF_LIFE of age at `as_of`: a log of 2015 has features of 2015.
Bots count as traffic (bot_views, is_bot) and never as interest.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from processing.tables import INTERACTIONS, ITEM_FEATURES, VISITOR_FEATURES

# How much more than a view an act tells of interest. Types that are not here (an impression, a search) tell nothing of
# the visitor's wish for the item.
WEIGHTS: Mapping[str, float] = {"page_view": 1.0, "click": 1.0, "add_to_cart": 3.0, "purchase": 5.0}
HALF_LIFE = timedelta(days=30)
ODD_CLOCK = "odd_clock"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAY = 86_400.0


def newest(events: DataFrame) -> datetime | None:
    """The time of the newest event whose clock is trusted, which later code calls `as_of`; None without events."""
    trusted = ~F.array_contains(F.coalesce("flags", F.array().cast("array<string>")), ODD_CLOCK)
    millis = events.filter(trusted).agg(F.unix_millis(F.max("occurred_at"))).collect()[0][0]
    return None if millis is None else from_millis(millis)


def from_millis(millis: int) -> datetime:
    """Milliseconds since 1970 as an aware datetime: a naive one would mean the machine's zone to Spark."""
    return _EPOCH + timedelta(milliseconds=millis)


def interests(events: DataFrame) -> DataFrame:
    """The events that tell a person's interest in an item: (visitor_id, item_id, occurred_at, event_type)."""
    return events.filter(
        F.col("visitor_id").isNotNull()
        & F.col("item_id").isNotNull()
        & _is_human()
        & F.col("event_type").isin(*WEIGHTS)
    ).select("visitor_id", "item_id", "occurred_at", "event_type")


def interactions(events: DataFrame, as_of: datetime) -> DataFrame:
    """Rows of `interactions` but for `batch`: one per visitor and item, with their summed weight."""
    return (
        interests(events)
        .groupBy("visitor_id", "item_id")
        .agg(
            F.count("*").alias("events"),
            _rounded(F.sum(_weight(as_of))).alias("weight"),
            F.min("occurred_at").alias("first_at"),
            F.max("occurred_at").alias("last_at"),
        )
        .withColumn("as_of", F.lit(as_of))
        .select(*_but_batch(INTERACTIONS.columns))
    )


def item_features(events: DataFrame, as_of: datetime) -> DataFrame:
    """Rows of `item_features` but for `batch`. Title and path are the most frequent ones, ties by name."""
    human = _is_human()
    viewed = F.col("event_type") == "page_view"  # only then is the page the item's own, not that of a list or a cart
    return (
        events.filter(F.col("item_id").isNotNull())
        .groupBy("item_id")
        .agg(
            F.mode(F.when(viewed, F.col("page.title")), deterministic=True).alias("title"),
            F.mode(F.when(viewed, F.col("page.path")), deterministic=True).alias("path"),
            *[
                F.count_if(human & (F.col("event_type") == event_type)).alias(name)
                for name, event_type in {
                    "views": "page_view",
                    "impressions": "impression",
                    "clicks": "click",
                    "add_to_carts": "add_to_cart",
                    "purchases": "purchase",
                }.items()
            ],
            F.count_if(~human & (F.col("event_type") == "page_view")).alias("bot_views"),
            F.count_distinct(F.when(human, F.col("visitor_id"))).alias("visitors"),
            _rounded(F.sum(F.when(human, _weight(as_of)).otherwise(0.0))).alias("popularity"),
            F.min("occurred_at").alias("first_at"),
            F.max("occurred_at").alias("last_at"),
        )
        .withColumn("path", F.coalesce("path", "item_id"))
        .withColumn("title", F.coalesce("title", "path"))
        .withColumn("as_of", F.lit(as_of))
        .select(*_but_batch(ITEM_FEATURES.columns))
    )


def visitor_features(events: DataFrame, as_of: datetime) -> DataFrame:
    """Rows of `visitor_features` but for `batch`; bots have theirs, marked."""
    age = F.lit(as_of).cast("double") - F.col("last_at").cast("double")
    return (
        events.filter(F.col("visitor_id").isNotNull())
        .groupBy("visitor_id")
        .agg(
            F.max(~_is_human()).alias("is_bot"),
            F.count("*").alias("events"),
            F.count_if(F.col("event_type") == "page_view").alias("page_views"),
            F.count_distinct("item_id").alias("items"),
            F.count_if(F.col("event_type") == "add_to_cart").alias("add_to_carts"),
            F.count_if(F.col("event_type") == "purchase").alias("purchases"),
            F.mode("device.type", deterministic=True).alias("device_type"),
            F.min("occurred_at").alias("first_at"),
            F.max("occurred_at").alias("last_at"),
        )
        .withColumn("recency_days", F.greatest(F.lit(0.0), age) / _DAY)
        .withColumn("as_of", F.lit(as_of))
        .select(*_but_batch(VISITOR_FEATURES.columns))
    )


def _is_human() -> Column:
    return ~F.coalesce("device.is_bot", F.lit(False))


def _weight(as_of: datetime) -> Column:
    """The event type's weight, decayed to `as_of`; an event from a clock that runs ahead counts as new."""
    pairs = [F.lit(part) for pair in WEIGHTS.items() for part in pair]
    by_type = F.coalesce(F.create_map(*pairs)[F.col("event_type")], F.lit(0.0))
    age = F.greatest(F.lit(0.0), F.lit(as_of).cast("double") - F.col("occurred_at").cast("double"))
    return by_type * F.pow(F.lit(0.5), age / HALF_LIFE.total_seconds())


def _rounded(column: Column) -> Column:
    """Sums of doubles depend on their order in the last digits; what is stored must not."""
    return F.round(column, 6)


def _but_batch(columns: Mapping[str, str]) -> list[str]:
    return [name for name in columns if name != "batch"]
