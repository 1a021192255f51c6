"""What Spark makes of any events is what a plain loop makes of them."""

from __future__ import annotations

from collections import defaultdict
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from processing.events import curate, sessions
from processing.feature_definitions import ITEM, PAIR, VISITOR, compute, follows, season
from processing.features import covisits, values
from tests.support.events import click
from tests.support.spark import KNOWN, Events

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

MINUTE, DAY = 60_000, 86_400_000
START = 20_000 * DAY
GAP = timedelta(minutes=30)
# A Spark job each, so few, but of many events: each visitor, item or id of them is a case of its own.
few = settings(max_examples=4, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
subjects = st.sampled_from(["a", "b", "c", "d", "e", "f"])
minutes = st.integers(0, 12).map(lambda n: n * 15)  # pauses just as long as the gap among them
types = st.sampled_from(["page_view", "click", "impression", "add_to_cart", "purchase", "search"])


def many(**columns: st.SearchStrategy[Any]) -> st.SearchStrategy[list[dict[str, Any]]]:
    return st.lists(st.fixed_dictionaries(columns), min_size=60, max_size=120)


@few
@given(many(visitor=subjects, minute=minutes, bot=st.sampled_from([False, False, True])))
def test_sessions(events: Events, drawn: list[dict[str, Any]]) -> None:
    from ingest.event.event import Device

    clicks = [
        click(
            message_id=f"m{n}",
            anonymous_id=one["visitor"],
            occurred_at=START + one["minute"] * MINUTE,
            sequence=n % 3,
            device=Device(is_bot=one["bot"]),
        )
        for n, one in enumerate(drawn)
    ]
    wanted: set[tuple[str, bool, int, int, int]] = set()
    by_visitor: dict[tuple[str, bool], list[int]] = defaultdict(list)
    for one in clicks:
        by_visitor[str(one.anonymous_id), one.device.is_bot].append(one.occurred_at)
    for (visitor, bot), times in by_visitor.items():
        run: list[int] = []
        for time in [*sorted(times), 2**60]:
            if run and time - run[-1] > 30 * MINUTE:
                wanted.add((visitor, bot, run[0], run[-1], len(run)))
                run = []
            run.append(time)
    built = sessions.build(events(*clicks), GAP).selectExpr(
        "visitor_id", "is_bot", "unix_millis(started_at)", "unix_millis(ended_at)", "events", "session_id"
    )
    rows = [tuple(row) for row in built.collect()]
    assert {row[:5] for row in rows} == wanted
    assert len({row[5] for row in rows}) == len(wanted) == len(rows)


@few
@given(many(name=st.integers(0, 30), partition=st.integers(0, 2), invalid=st.sampled_from([False] * 5 + [True])))
def test_one_record_of_each_id_is_curated(spark: SparkSession, raw_rows: Events, drawn: list[dict[str, Any]]) -> None:
    landed = [
        (one["partition"], offset, click(message_id=str(one["name"]), write_key="" if one["invalid"] else "demo"))
        for offset, one in enumerate(drawn)
    ]
    ids = [click(message_id=str(name)).event_id for name in range(31)]
    earlier = {event_id: (1, 0, n) for n, event_id in enumerate(ids[::7])}
    known = spark.createDataFrame([(i, *place, None) for i, place in earlier.items()], KNOWN)
    winners: dict[str, tuple[int, int, int]] = dict(earlier)
    for partition, offset, event in sorted(landed, key=lambda one: one[:2]):
        if event.write_key:
            winners.setdefault(event.event_id, (2, partition, offset))
    classified = curate.classify(raw_rows(*landed), known, batch=2).persist()
    curated = {(2, row["partition"], row["offset"]) for row in curate.curated(classified, None, GAP).collect()}
    assert curated == {place for place in winners.values() if place[0] == 2}
    losers = curate.duplicates(classified).collect()
    for row in losers:
        assert winners[row["event_id"]] == (row["winner_batch"], row["winner_partition"], row["winner_offset"])
    invalid = {(row["partition"], row["offset"]) for row in curate.invalid(classified).collect()}
    assert invalid == {(partition, offset) for partition, offset, event in landed if not event.write_key}
    assert len(curated) + len(losers) + len(invalid) == len(landed)


# Quarters of days: ties, and moments that lie just on a window's edge.
quarters = st.integers(0, 4 * 40).map(lambda n: START + n * DAY // 4)


@few
@given(many(visitor=subjects, item=subjects, time=quarters, type=types, expected=st.sampled_from([0.05, 0.2, 0.5])))
def test_features_at_a_moment_are_those_of_a_plain_loop(spark: SparkSession, drawn: list[dict[str, Any]]) -> None:
    rows = [(d["visitor"], d["item"], d["time"], d["type"], d["expected"]) for d in drawn]
    seen = spark.createDataFrame(
        rows, "visitor_id STRING, item_id STRING, time BIGINT, event_type STRING, expected_clicks DOUBLE"
    ).persist()
    moments = (
        seen.filter("event_type = 'impression'")
        .selectExpr("uuid() AS moment_id", "visitor_id", "item_id", "time")
        .persist()
    )
    moments.count()  # uuid() must not be drawn twice
    for subject, features in (("item_id",), ITEM), (("visitor_id",), VISITOR), (("visitor_id", "item_id"), PAIR):
        places = [("visitor_id", "item_id").index(name) for name in subject]

        def history(key: tuple[str, ...], places: list[int] = places) -> list[tuple[int, str, float]]:
            return [row[2:] for row in rows if tuple(row[place] for place in places) == key]

        found = moments.join(values.at_moments(seen, moments, subject, features), "moment_id").collect()
        assert len(found) == moments.count()
        for row in found:
            wanted = compute(features, history(tuple(row[name] for name in subject)), row["time"])
            assert {name: row[name] for name in wanted} == pytest.approx(wanted, abs=1e-6)
        at = START + 41 * DAY
        for row in values.snapshot(seen, subject, features, at).collect():
            wanted = compute(features, history(tuple(row[name] for name in subject)), at)
            assert {name: row[name] for name in wanted} == pytest.approx(wanted, abs=1e-6)


@few
@given(many(visitor=subjects, item=subjects, time=st.integers(0, 20).map(lambda n: START + n * 600_000), type=types))
def test_what_follows_what_is_that_of_a_plain_loop(spark: SparkSession, drawn: list[dict[str, Any]]) -> None:
    """Steps of ten minutes: ties, and views just within half an hour."""
    rows = [(d["visitor"], d["item"], d["time"], d["type"], 0.05) for d in drawn]
    seen = spark.createDataFrame(
        rows, "visitor_id STRING, item_id STRING, time BIGINT, event_type STRING, expected_clicks DOUBLE"
    ).persist()
    views = {visitor: [row for row in rows if row[0] == visitor and row[3] == "page_view"] for visitor, *_ in rows}
    wanted = sorted(
        (last, item, time) for own in views.values() for last, item, (time, *_) in follows((r[2], r[1]) for r in own)
    )
    found = covisits.follows(seen).collect()
    assert sorted((row["last_item_id"], row["item_id"], row["time"]) for row in found) == wanted

    moments = seen.filter("event_type = 'impression'").selectExpr("uuid() AS moment_id", "visitor_id", "time").persist()
    moments.count()  # uuid() must not be drawn twice
    last = moments.join(covisits.last_viewed(moments, seen), "moment_id").collect()
    assert len(last) == moments.count()
    for row in last:
        before = [(time, item) for _, item, time, *_ in views[row["visitor_id"]] if time < row["time"]]
        assert row["last_item_id"] == (max(before)[1] if before else None)


def test_the_season_of_an_example_is_that_of_a_plain_function(spark: SparkSession) -> None:
    from pyspark.sql import functions as F

    from processing.features import examples

    times = [START, START + 5 * DAY + 12_345_678, -DAY - 1]
    rows = spark.createDataFrame([(time,) for time in times], "time BIGINT")
    found = rows.select("time", *[c.alias(name) for name, c in examples._season(F.col("time")).items()]).collect()
    for row in found:
        assert {name: row[name] for name in season(0)} == pytest.approx(season(row["time"]), abs=1e-9)
