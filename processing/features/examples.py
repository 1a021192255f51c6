"""Impressions and whether they were clicked, with the features of their moment. DataFrames in, DataFrames out.

An impression's label is known when its window has closed: `label` after it, as of the newest event; a click that
arrives after its example was made counts in features, but changes that label no more. A click belongs to
the last impression of the item for this visitor before it, in the same list where both name one, of the same
`impression_id` where both have one. Impressions that were not clicked are the negatives; none is made up.

Features are those of `feature_definitions` at the impression's moment: what happened at it or later plays no part. They
go by when events happened, not by when they arrived: a late event counts as if it had been known.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime, timedelta

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from processing.feature_definitions import COVISIT, ITEM, LONGEST_WINDOW, PAIR, VISITOR, Feature, millis
from processing.features import aggregates, covisits, values
from processing.tables import event_times
from processing.tables.feature_schemas import TRAINING_EXAMPLES

_DAY, _WEEK, _MONDAY = 86_400_000, 7 * 86_400_000, 4 * 86_400_000  # milliseconds
BOUGHT = ("add_to_cart", "purchase")


def lately(events: DataFrame, days: int, batch: int | None = None) -> tuple[DataFrame, DataFrame, datetime | None]:
    """The events of the last `days`, those and what the windows of their features reach back to, and the time of the
    newest."""
    known, as_of = event_times.lately(events, days + LONGEST_WINDOW.days, batch)
    return (known if as_of is None else event_times.recent(known, as_of, days)), known, as_of


def ripe(events: DataFrame, elsewhere: DataFrame, as_of: datetime, label: timedelta) -> DataFrame:
    """The impressions of people whose window closed by `as_of`, but for the examples (example_id) that lie
    `elsewhere`, in other batches: so each is in one, whichever batches are trained on, and a rerun has its own again.
    """
    closed = F.col("occurred_at") + F.expr(f"INTERVAL {millis(label)} MILLISECONDS")
    shown = events.filter(aggregates.is_human()).filter(
        (F.col("event_type") == "impression")
        & F.col("visitor_id").isNotNull()
        & F.col("item_id").isNotNull()
        & (closed <= F.lit(as_of))
    )
    return shown.join(elsewhere, on=shown["event_id"] == elsewhere["example_id"], how="left_anti")


def build(impressions: DataFrame, events: DataFrame, seen: DataFrame, as_of: datetime, label: timedelta) -> DataFrame:
    """Rows of `training_examples` but for `batch`. `seen` is what `features.occurrences` gives of the `events`, with
    their event_id."""
    moments = impressions.select(
        F.col("event_id").alias("moment_id"),
        *("visitor_id", "item_id", "list_id", "position", "propensity", "model_version", "impression_id"),
        F.col("device.type").alias("device_type"),
        "occurred_at",
        F.unix_millis("occurred_at").alias("time"),
    )
    moments = moments.join(covisits.last_viewed(moments, seen), on="moment_id")
    named = moments.join(clicked(moments, events, label), on="moment_id", how="left").join(
        bought(moments, events, label), on="moment_id", how="left"
    )
    expected = seen.select(F.col("event_id").alias("moment_id"), "expected_clicks")
    rows = named.join(expected, on="moment_id", how="left")
    for happened, subject, features, prefix in subjects(seen):
        of_subject = values.at_moments(happened, moments.dropna(subset=subject), subject, features, prefix)
        rows = rows.join(of_subject, on="moment_id", how="left")
    return (
        values.without_history(rows, COVISIT, covisits.PREFIX)
        .withColumnRenamed("moment_id", "example_id")
        .withColumns({name: F.coalesce(name, F.lit(False)) for name in ("clicked", "converted")})
        .withColumns(_season(F.col("time")))
        .withColumn("as_of", F.lit(as_of))
        .select(*[name for name in TRAINING_EXAMPLES.columns if name != "batch"])
    )


def subjects(seen: DataFrame) -> list[tuple[DataFrame, tuple[str, ...], Sequence[Feature], str]]:
    """The subjects of an example's features: (events, columns of the subject, features, prefix of their columns)."""
    return [
        (seen, ("item_id",), ITEM, "item_"),
        (seen, ("visitor_id",), VISITOR, "visitor_"),
        (seen, ("visitor_id", "item_id"), PAIR, "pair_"),
        (covisits.follows(seen), covisits.PAIR, COVISIT, covisits.PREFIX),
    ]


def clicked(moments: DataFrame, events: DataFrame, label: timedelta) -> DataFrame:
    """(moment_id, clicked): the moments that a click belongs to, which may as well belong to an impression of the
    `events` that is no moment: one that is not ripe yet, or that lies in another batch."""
    clicks = (
        events.filter(aggregates.is_human())
        .filter(F.col("event_type") == "click")
        .select(
            F.col("event_id").alias("click_id"),
            "visitor_id",
            "item_id",
            F.col("list_id").alias("click_list"),
            F.col("impression_id").alias("click_impression"),
            F.unix_millis("occurred_at").alias("clicked_at"),
        )
    )

    def agree(ours: str, theirs: str) -> Column:
        return F.coalesce(F.col(ours) == F.col(theirs), F.lit(True))

    shown = (
        events.filter(aggregates.is_human())
        .filter(F.col("event_type") == "impression")
        .select(
            F.col("event_id").alias("moment_id"),
            *("visitor_id", "item_id", "list_id", "impression_id"),
            F.unix_millis("occurred_at").alias("time"),
        )
    )
    pair = ["visitor_id", "item_id"]
    shown, clicks = (rows.join(moments.select(*pair), on=pair, how="left_semi") for rows in (shown, clicks))
    pairs = shown.join(clicks, on=pair, how="inner").filter(
        (F.col("clicked_at") >= F.col("time"))
        & (F.col("clicked_at") < F.col("time") + millis(label))
        & agree("list_id", "click_list")
        & agree("impression_id", "click_impression")
    )
    last = pairs.groupBy("click_id").agg(F.max_by("moment_id", F.struct("time", "moment_id")).alias("moment_id"))
    last = last.join(moments.select("moment_id"), on="moment_id", how="left_semi")
    return last.select("moment_id", F.lit(True).alias("clicked")).distinct()


def bought(moments: DataFrame, events: DataFrame, label: timedelta) -> DataFrame:
    """(moment_id, converted): the moments after which, within the window, the visitor put the item into the cart."""
    acts = (
        events.filter(aggregates.is_human())
        .filter(F.col("event_type").isin(*BOUGHT))
        .select("visitor_id", "item_id", F.unix_millis("occurred_at").alias("bought_at"))
    )
    after = moments.join(acts, on=["visitor_id", "item_id"], how="inner").filter(
        (F.col("bought_at") >= F.col("time")) & (F.col("bought_at") < F.col("time") + millis(label))
    )
    return after.select("moment_id", F.lit(True).alias("converted")).distinct()


def _season(time: Column) -> dict[str, Column]:
    """As `feature_definitions.season`."""
    day = F.pmod(time, F.lit(_DAY)) * (2 * math.pi / _DAY)
    week = F.pmod(time - _MONDAY, F.lit(_WEEK)) * (2 * math.pi / _WEEK)
    return {"day_sin": F.sin(day), "day_cos": F.cos(day), "week_sin": F.sin(week), "week_cos": F.cos(week)}
