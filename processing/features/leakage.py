"""Test for leakage: a sample of training examples is computed anew, each from nothing but the events before it.

`examples` computes all of them at once, by running sums over whole histories; here each sampled example is looked at by
itself: its features and what its visitor viewed last from the events before its moment, the clicks that its place got
from the days before, and its labels from what its visitor did in its window.
"""

from __future__ import annotations

import math
from collections import defaultdict
from datetime import timedelta
from typing import Any

from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F

from processing.feature_definitions import compute, millis
from processing.features import aggregates, values
from processing.features.aggregates import PRIOR_CLICK_RATE, PRIOR_IMPRESSIONS
from processing.features.examples import BOUGHT, subjects
from processing.tables.quality import Finding

SAMPLE = 50
_TOLERANCE = 2e-6  # values are rounded to 6 digits


def find(examples: DataFrame, seen: DataFrame, events: DataFrame, label: timedelta) -> list[Finding]:
    """A finding if any of the sampled `examples` has another value than it should.

    The sample is of those with the lowest hashes: the same at every run. `seen` is what `aggregates.occurrences` gives,
    `events` those of which position_rates were made.
    """
    lowest = examples.orderBy(F.xxhash64("example_id"), "example_id").limit(SAMPLE)
    sample = lowest.withColumn("time", F.unix_millis("occurred_at")).withColumnRenamed("example_id", "moment_id")
    sample = sample.persist()
    rows = sample.collect()
    wanted = _features(rows, sample, seen)
    people = events.filter(aggregates.is_human())
    for found in (_last_viewed(sample, seen), _expected_clicks(sample, people), _labels(rows, sample, people, label)):
        for moment, known in found.items():
            wanted[moment] |= known
    sample.unpersist()
    differing = {row["moment_id"]: _differences(row, wanted[row["moment_id"]]) for row in rows}
    shown = [{"example_id": one, "columns": ", ".join(names)} for one, names in differing.items() if names]
    return [Finding(f"of {len(rows)} examples some are not of their moment", len(shown), shown)] if shown else []


def _features(rows: list[Row], sample: DataFrame, seen: DataFrame) -> dict[str, dict[str, Any]]:
    """The features of each example, and null and the prior for what is only known of some."""
    wanted: dict[str, dict[str, Any]] = {
        row["moment_id"]: {"last_item_id": None, "expected_clicks": PRIOR_CLICK_RATE} for row in rows
    }
    for happened, subject, features, prefix in subjects(seen):
        found = values.before_each(happened, sample, subject, features).collect()
        by_moment = {row["moment_id"]: row.asDict() for row in found}
        for moment, known in wanted.items():
            of_subject = by_moment.get(moment) or compute(features, [], 0)
            known |= {f"{prefix}{feature.name}": of_subject[feature.name] for feature in features}
    return wanted


def _last_viewed(sample: DataFrame, seen: DataFrame) -> dict[str, dict[str, Any]]:
    few = F.broadcast(sample.select("moment_id", "visitor_id", F.col("time").alias("at")))
    views = seen.filter((F.col("event_type") == "page_view") & F.col("item_id").isNotNull())
    before = views.join(few, on="visitor_id", how="inner").filter(F.col("time") < F.col("at"))
    last = before.groupBy("moment_id").agg(F.max_by("item_id", F.struct("time", "item_id")).alias("last_item_id"))
    return {row["moment_id"]: {"last_item_id": row["last_item_id"]} for row in last.collect()}


def _expected_clicks(sample: DataFrame, people: DataFrame) -> dict[str, dict[str, Any]]:
    """By the impressions and clicks at the place before the day, in the example's list and in all lists."""
    shown, clicked = (F.count_if(F.col("event_type") == kind) for kind in ("impression", "click"))
    days = people.groupBy("position", "list_id", F.to_date("occurred_at").alias("day")).agg(
        shown.alias("shown"), clicked.alias("clicked")
    )
    own_list, own_day = F.col("list_id").alias("own_list"), F.to_date("occurred_at").alias("own_day")
    few = F.broadcast(sample.select("moment_id", "position", own_list, own_day))
    before = days.join(few, on="position", how="inner").filter(F.col("day") < F.col("own_day"))
    in_list = (F.col("list_id") == F.col("own_list")) & (F.col("list_id") != aggregates.ALL_LISTS)
    sums = [
        F.coalesce(F.sum(F.when(where, F.col(of))), F.lit(0)).alias(f"{of}{suffix}")
        for where, suffix in ((F.lit(True), ""), (in_list, "_in_list"))
        for of in ("shown", "clicked")
    ]
    found = {}
    for row in before.groupBy("moment_id").agg(*sums).collect():
        rate = _rate(row["clicked"], row["shown"], PRIOR_CLICK_RATE)
        if row["shown_in_list"]:
            rate = _rate(row["clicked_in_list"], row["shown_in_list"], rate)
        found[row["moment_id"]] = {"expected_clicks": rate}
    return found


def _rate(clicks: int, impressions: int, prior: float) -> float:
    return (min(clicks, impressions) + prior * PRIOR_IMPRESSIONS) / (impressions + PRIOR_IMPRESSIONS)


def _labels(rows: list[Row], sample: DataFrame, people: DataFrame, label: timedelta) -> dict[str, dict[str, Any]]:
    few = F.broadcast(sample.select("moment_id", "visitor_id", "item_id", F.col("time").alias("at")))
    acts = people.select(
        *("event_id", "visitor_id", "item_id", "event_type", "list_id", "impression_id"),
        F.unix_millis("occurred_at").alias("time"),
    )
    during = (F.col("time") >= F.col("at")) & (F.col("time") < F.col("at") + millis(label))
    happened: dict[str, list[Row]] = defaultdict(list)
    for act in acts.join(few, on=["visitor_id", "item_id"], how="inner").filter(during).collect():
        happened[act["moment_id"]].append(act)
    return {row["moment_id"]: _labels_of(row["moment_id"], happened[row["moment_id"]]) for row in rows}


def _labels_of(moment: str, acts: list[Row]) -> dict[str, Any]:
    """What its window's acts, on the example's item by its visitor, say of an example."""
    shown = sorted((act["time"], act["event_id"], act) for act in acts if act["event_type"] == "impression")

    def is_of(click: Row) -> bool:
        fitting = [
            name
            for time, name, act in shown
            if time <= click["time"] and _agree(act, click, "list_id") and _agree(act, click, "impression_id")
        ]
        return fitting[-1:] == [moment]

    return {
        "clicked": any(is_of(act) for act in acts if act["event_type"] == "click"),
        "converted": any(act["event_type"] in BOUGHT for act in acts),
    }


def _agree(one: Row, other: Row, name: str) -> bool:
    return one[name] is None or other[name] is None or one[name] == other[name]


def _differences(row: Row, wanted: dict[str, Any]) -> list[str]:
    return [name for name, value in wanted.items() if not _equal(row[name], value)]


def _equal(found: Any, wanted: Any) -> bool:
    if not isinstance(found, float) or wanted is None:
        return bool(found == wanted)
    return math.isclose(found, wanted, rel_tol=1e-9, abs_tol=_TOLERANCE)
