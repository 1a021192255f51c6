"""Aggregates of events by pair, item, visitor, place and hour, as of the data's own time. DataFrames in and out.

An event's weight is its type's, halved for every HALF_LIFE of age at `as_of`: a log of 2015 has features of 2015.
Bots count as traffic (bot_views, is_bot) and never as interest. Columns of `feature_definitions` are computed by
`feature_values` at the moment after `as_of`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from ingest.event.event import to_millis
from processing.feature_definitions import COVISIT, COVISIT_DAYS, ITEM, VISITOR, WEIGHTS, Feature
from processing.features import covisits, values
from processing.tables.feature_schemas import (
    COVISITS,
    INTERACTIONS,
    ITEM_FEATURES,
    POSITION_RATES,
    VISITOR_FEATURES,
    WEEKLY_PROFILE,
)

HALF_LIFE = timedelta(days=30)
# Prior click rate of a place in a list, and the number of impressions that it is worth.
PRIOR_CLICK_RATE, PRIOR_IMPRESSIONS = 0.05, 20.0
ALL_LISTS = ""  # the list_id of what is known of a place in any list

_DAY = 86_400.0


def interests(events: DataFrame) -> DataFrame:
    """The events that tell a person's interest in an item: (visitor_id, item_id, occurred_at, event_type)."""
    return events.filter(
        F.col("visitor_id").isNotNull() & F.col("item_id").isNotNull() & is_human() & F.col("event_type").isin(*WEIGHTS)
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


def position_rates(events: DataFrame) -> DataFrame:
    """Rows of `position_rates` but for `batch`: how often what stood at a place was clicked, in all days before `day`.

    Each day's rate is made of what was known before it, so that a feature that uses it knows nothing of its future.
    Rates of a place in all lists together have the `list_id` ALL_LISTS; those of a list, once it was shown, start from
    them, so that a list of few impressions has about the rate of the place.
    """
    seen = events.filter(is_human() & F.col("position").isNotNull())
    days = seen.groupBy("list_id", "position", F.to_date("occurred_at").alias("day")).agg(
        F.count_if(F.col("event_type") == "impression").alias("shown"),
        F.count_if(F.col("event_type") == "click").alias("clicked"),
    )
    everywhere = days.groupBy("position", "day").agg(*[F.sum(name).alias(name) for name in ("shown", "clicked")])
    of_all = _before_each_day(everywhere, "position").withColumn("list_id", F.lit(ALL_LISTS))
    places = of_all.withColumn("click_rate", _rounded(place_rate("clicks", "impressions", F.lit(PRIOR_CLICK_RATE))))
    prior = places.select("position", "day", F.col("click_rate").alias("at_place"))
    named = days.filter(F.coalesce("list_id", F.lit(ALL_LISTS)) != ALL_LISTS)
    of_lists = _before_each_day(named, "list_id", "position").filter(F.col("impressions") > 0)
    lists = of_lists.join(prior, on=["position", "day"], how="inner").withColumn(
        "click_rate", _rounded(place_rate("clicks", "impressions", F.col("at_place")))
    )
    columns = _but_batch(POSITION_RATES.columns)
    return places.select(*columns).unionByName(lists.select(*columns))


def place_rate(clicks: str, impressions: str, prior: Column) -> Column:
    """The smoothed rate of a place; a tracker may send clicks without impressions, or a click twice."""
    return (F.least(clicks, impressions) + prior * PRIOR_IMPRESSIONS) / (F.col(impressions) + PRIOR_IMPRESSIONS)


def _before_each_day(days: DataFrame, *place: str) -> DataFrame:
    """(place, day, impressions, clicks): what was `shown` and `clicked` there in all days before."""
    before = Window.partitionBy(*place).orderBy("day").rowsBetween(Window.unboundedPreceding, -1)
    counts = {"impressions": "shown", "clicks": "clicked"}
    return days.select(
        *place, "day", *[F.coalesce(F.sum(of).over(before), F.lit(0)).alias(name) for name, of in counts.items()]
    )


def occurrences(events: DataFrame, rates: DataFrame, *more: str) -> DataFrame:
    """People's events as `feature_values` reads them: (visitor_id, item_id, time, event_type, expected_clicks), and
    `more` of their columns. Clicks are expected by the rate of the place in its list, else in all lists."""
    known = rates.withColumn("list_id", F.coalesce("list_id", F.lit(ALL_LISTS)))
    everywhere = F.col("list_id") == ALL_LISTS
    places = known.filter(everywhere).select("position", "day", F.col("click_rate").alias("at_place"))
    lists = known.filter(~everywhere).select("list_id", "position", "day", F.col("click_rate").alias("in_list"))
    return (
        events.filter(is_human())
        .withColumn("day", F.to_date("occurred_at"))
        .join(places, on=["position", "day"], how="left")
        .join(lists, on=["list_id", "position", "day"], how="left")
        .select(
            "visitor_id",
            "item_id",
            F.unix_millis("occurred_at").alias("time"),
            "event_type",
            F.coalesce("in_list", "at_place", F.lit(PRIOR_CLICK_RATE)).alias("expected_clicks"),
            *more,
        )
    )


def weekly_profile(events: DataFrame, as_of: datetime) -> DataFrame:
    """Rows of `weekly_profile` but for `batch`: the share of people's page views in each of a week's 168 hours (UTC).

    One view is added to each hour, so that none is impossible.
    """
    hours = events.sparkSession.range(168).select(F.col("id").cast("int").alias("hour_of_week"))
    since_monday = F.pmod(F.floor(F.unix_millis("occurred_at") / 3_600_000) - 96, F.lit(168)).cast("int")
    views = (
        events.filter(is_human() & (F.col("event_type") == "page_view"))
        .groupBy(since_monday.alias("hour_of_week"))
        .agg(F.count("*").alias("views"))
    )
    whole = F.sum("views").over(Window.partitionBy()) + 168
    return (
        hours.join(views, on="hour_of_week", how="left")
        .withColumn("views", F.coalesce("views", F.lit(0)))
        .withColumn("share", _rounded((F.col("views") + 1) / whole))
        .withColumn("as_of", F.lit(as_of))
        .select(*_but_batch(WEEKLY_PROFILE.columns))
    )


def item_features(events: DataFrame, seen: DataFrame, as_of: datetime) -> DataFrame:
    """Rows of `item_features` but for `batch`; `seen` is what `occurrences` gives of these events.

    Title and path are the most frequent ones, ties by name.
    """
    human = is_human()
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
        .join(_defined(seen, ["item_id"], ITEM, as_of), on="item_id", how="left")
        .select(*_but_batch(ITEM_FEATURES.columns))
    )


def visitor_features(events: DataFrame, seen: DataFrame, as_of: datetime) -> DataFrame:
    """Rows of `visitor_features` but for `batch`; bots have theirs, marked, without what is defined of people alone."""
    age = F.lit(as_of).cast("double") - F.col("last_at").cast("double")
    return (
        events.filter(F.col("visitor_id").isNotNull())
        .groupBy("visitor_id")
        .agg(
            F.max(~is_human()).alias("is_bot"),
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
        .join(covisits.last_of_each(seen, to_millis(as_of) + 1), on="visitor_id", how="left")
        .join(_defined(seen, ["visitor_id"], VISITOR, as_of), on="visitor_id", how="left")
        .select(*_but_batch(VISITOR_FEATURES.columns))
    )


def covisitation(seen: DataFrame, as_of: datetime) -> DataFrame:
    """Rows of `covisits` but for `batch`: of each two items of which one was lately viewed after the other."""
    remembered = to_millis(as_of - timedelta(days=COVISIT_DAYS)) + 1
    rows = _defined(covisits.follows(seen).filter(F.col("time") >= remembered), covisits.PAIR, COVISIT, as_of)
    named = rows.withColumnsRenamed({one.name: f"{covisits.PREFIX}{one.name}" for one in COVISIT})
    return named.withColumn("as_of", F.lit(as_of)).select(*_but_batch(COVISITS.columns))


def _defined(seen: DataFrame, subject: Sequence[str], features: Sequence[Feature], as_of: datetime) -> DataFrame:
    known = seen.dropna(subset=list(subject))
    return values.snapshot(known, subject, features, to_millis(as_of) + 1)


def is_human() -> Column:
    """Whether an event is a person's, not a bot's."""
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
