"""Training examples: which impressions, which labels, and that none knows its future."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from pyspark.sql import functions as F

from ingest.event.event import ClickEvent, Device, to_millis
from processing.feature_definitions import VISITOR
from processing.features import aggregates, examples, leakage, values
from tests.support.events import NOON, click
from tests.support.spark import Events

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

LABEL = timedelta(minutes=30)
LATER = NOON + timedelta(days=2)
SECOND_DAY = to_millis(NOON + timedelta(days=1))


def act(event_type: str, minutes: float, name: str, **fields: object) -> ClickEvent:
    when = to_millis(NOON + timedelta(minutes=minutes))
    return click(**{"message_id": name, "event_type": event_type, "occurred_at": when, "position": 0} | fields)


def seen(rows: DataFrame) -> DataFrame:
    return aggregates.occurrences(rows, aggregates.position_rates(rows), "event_id").localCheckpoint()


def nowhere(rows: DataFrame) -> DataFrame:
    return rows.limit(0).select(rows["event_id"].alias("example_id"))


def built(rows: DataFrame) -> dict[str, tuple[bool, bool]]:
    """message id -> clicked, converted."""
    shown = examples.ripe(rows, nowhere(rows), LATER, LABEL)
    made = examples.build(shown, rows, seen(rows), LATER, LABEL)
    names = {row["event_id"]: row["message_id"] for row in rows.collect()}
    return {names[row["example_id"]]: (row["clicked"], row["converted"]) for row in made.collect()}


def test_a_click_belongs_to_the_last_impression_of_its_item_list_and_visitor_within_the_window(events: Events) -> None:
    rows = events(
        act("impression", 0, "first"),
        act("impression", 5, "second"),
        act("click", 6, "on-second"),
        act("impression", 10, "other-list", list_id="x"),
        act("click", 11, "on-y", list_id="y"),  # not of list x; "second" names no list
        act("impression", 20, "other-item", item_id="/b"),
        act("impression", 20, "other-visitor", anonymous_id="bob"),
        act("impression", 100, "too-long-ago"),
        act("click", 130, "too-late"),
        act("impression", 200, "bought"),
        act("purchase", 215, "buys"),
        act("impression", 300, "a-bot", device=Device(is_bot=True)),
        act("impression", 300, "nobody", anonymous_id=None),
        act("impression", 310, "which a bot clicks"),
        act("click", 311, "of a bot", device=Device(is_bot=True)),
        act("purchase", 312, "of a bot, too", device=Device(is_bot=True)),
        act("impression", 400, "by-id-1", impression_id="i1"),
        act("impression", 401, "by-id-2", impression_id="i2"),
        act("click", 402, "on-i1", impression_id="i1"),
    )
    assert built(rows) == {
        "first": (False, False),
        "second": (True, False),
        "other-list": (False, False),
        "other-item": (False, False),
        "other-visitor": (False, False),
        "too-long-ago": (False, False),
        "bought": (False, True),
        "which a bot clicks": (False, False),
        "by-id-1": (True, False),
        "by-id-2": (False, False),
    }


def test_each_impression_is_an_example_of_one_batch_when_its_window_has_closed(events: Events) -> None:
    first = events(act("impression", 0, "closed"), act("impression", 40, "open"))
    second = events(act("impression", 1, "late"), act("impression", 80, "still-open"), batch=2)
    rows = first.unionByName(second)

    def ripe(batch: int, as_of: int, *elsewhere: str) -> list[str]:
        known = rows.filter(f"batch <= {batch}")
        others = rows.filter(rows["message_id"].isin(*elsewhere)).select(rows["event_id"].alias("example_id"))
        found = examples.ripe(known, others, NOON + timedelta(minutes=as_of), LABEL)
        return sorted(row["message_id"] for row in found.collect())

    assert ripe(1, 40) == ["closed"]
    assert ripe(2, 80, "closed") == ["late", "open"]
    assert ripe(2, 80) == ["closed", "late", "open"]  # nobody trained on the first batch
    assert ripe(1, 40, "late", "open") == ["closed"]  # later somebody does, or does it again


def test_a_planted_leak_is_caught(events: Events) -> None:
    """Features of the data's end, as a join without time would give them, differ for those who clicked later."""
    rows = events(
        *(act("impression", n, f"shown-{n}", item_id=f"/{n % 3}") for n in range(12)),
        *(act("click", n + 0.5, f"clicked-{n}", item_id=f"/{n % 3}") for n in range(0, 12, 4)),
    ).persist()
    shown = examples.ripe(rows, nowhere(rows), LATER, LABEL)
    honest = examples.build(shown, rows, seen(rows), LATER, LABEL).persist()
    assert honest.count() == 12 and not leakage.find(honest, seen(rows), rows, LABEL)

    at_the_end = aggregates.item_features(rows, seen(rows), LATER).select("item_id", "clicks_30d")
    joined = at_the_end.withColumnRenamed("clicks_30d", "item_clicks_30d")
    leaky = honest.drop("item_clicks_30d").join(joined, "item_id")
    [finding] = leakage.find(leaky, seen(rows), rows, LABEL)
    assert finding.rows > 3 and finding.examples[0]["columns"] == "item_clicks_30d"

    leaky = honest.withColumns(
        {
            "expected_clicks": F.col("clicked").cast("double"),
            "last_item_id": F.col("item_id"),
            "converted": F.col("clicked"),
            "clicked": ~F.col("clicked"),
        }
    )
    [finding] = leakage.find(leaky, seen(rows), rows, LABEL)
    told = {name for one in finding.examples for name in one["columns"].split(", ")}
    assert told >= {"expected_clicks", "last_item_id", "clicked", "converted"}


def test_a_leak_of_an_item_with_a_long_history_is_caught(events: Events) -> None:
    views = [act("page_view", n / 50, f"view-{n}", anonymous_id=f"v{n % 9}", position=None) for n in range(2_100)]
    rows = events(*views, act("impression", 40, "shown")).persist()
    known = seen(rows)
    honest = examples.build(examples.ripe(rows, nowhere(rows), LATER, LABEL), rows, known, LATER, LABEL).persist()
    assert [row["item_views_30d"] for row in honest.collect()] == [2_000] and not leakage.find(
        honest, known, rows, LABEL
    )
    leaky = honest.withColumn("item_views_30d", F.lit(2_100.0))
    [finding] = leakage.find(leaky, known, rows, LABEL)
    assert finding.examples[0]["columns"] == "item_views_30d"


def test_an_impression_knows_what_its_visitor_viewed_last_and_what_followed_it_before(events: Events) -> None:
    def view(minutes: float, name: str, item: str, visitor: str) -> ClickEvent:
        return act("page_view", minutes, name, item_id=item, anonymous_id=visitor)

    rows = events(
        *(view(n, f"from-{n}", "/a", f"other-{n}") for n in range(3)),
        *(view(n + 5, f"to-{n}", "/b", f"other-{n}") for n in range(3)),  # the last one at 7
        view(1, "ann-a", "/a", "ann"),
        act("impression", 6, "when-one-had", item_id="/b"),
        act("impression", 8, "when-all-had", item_id="/b"),
        act("impression", 0.5, "before", item_id="/b"),
        view(9, "ann-c", "/c", "ann"),
        act("impression", 9, "at-once", item_id="/b"),
        act("impression", 9.5, "after", item_id="/b"),
    ).persist()
    made = examples.build(examples.ripe(rows, nowhere(rows), LATER, LABEL), rows, seen(rows), LATER, LABEL).persist()
    names = {row["event_id"]: row["message_id"] for row in rows.collect()}
    assert {
        names[row["example_id"]]: (row["last_item_id"], row["covisit_views_7d"], row["covisit_views_30d"])
        for row in made.collect()
    } == {
        "before": (None, 0, 0),
        "when-one-had": ("/a", 1, 1),
        "when-all-had": ("/a", 3, 3),
        "at-once": ("/a", 3, 3),
        "after": ("/c", 0, 0),
    }
    assert not leakage.find(made, seen(rows), rows, LABEL)
    leaky = made.selectExpr("* EXCEPT (covisit_views_7d)", "covisit_views_30d + 1 AS covisit_views_7d")
    [finding] = leakage.find(leaky, seen(rows), rows, LABEL)
    assert {one["columns"] for one in finding.examples} == {"covisit_views_7d"}


def test_what_stood_at_a_good_place_is_expected_to_be_clicked_more(events: Events) -> None:
    def day(number: int, position: int, clicks: int) -> list[ClickEvent]:
        at = {"position": position, "item_id": f"/{position}"}
        start = number * 24 * 60
        shown = [act("impression", start + n, f"s{number}-{position}-{n}", **at) for n in range(10)]
        return shown + [act("click", start + n + 0.5, f"c{number}-{position}-{n}", **at) for n in range(clicks)]

    rows = events(*day(0, 0, 8), *day(0, 5, 1), *day(1, 0, 0), *day(1, 5, 0)).persist()
    rates = {(row["day"].day, row["position"]): row["click_rate"] for row in aggregates.position_rates(rows).collect()}
    assert rates == {(17, 0): 0.05, (17, 5): 0.05, (18, 0): 0.3, (18, 5): 0.066667}
    second_day = seen(rows).filter("event_type = 'impression'").groupBy("item_id").max("expected_clicks").collect()
    assert {row[0]: row[1] for row in second_day} == pytest.approx({"/0": 0.3, "/5": 0.066667}, abs=1e-6)


def test_a_place_of_one_list_is_none_of_another(events: Events) -> None:
    def day(number: int, list_id: str | None, shown: int, clicks: int) -> list[ClickEvent]:
        start, at = number * 24 * 60, {"list_id": list_id, "position": 3, "item_id": f"/{list_id}"}
        made = [act("impression", start + n / 10, f"s{number}-{list_id}-{n}", **at) for n in range(shown)]
        return made + [act("click", start + n / 10, f"c{number}-{list_id}-{n}", **at) for n in range(clicks)]

    first = [*day(0, "search", 80, 40), *day(0, "carousel", 80, 0), *day(0, "small", 1, 1)]
    second = [row for name in ("search", "carousel", "small", "new", None) for row in day(1, name, 1, 0)]
    rows = events(*first, *second).persist()
    found = {row["item_id"]: row["expected_clicks"] for row in seen(rows).filter(f"time >= {SECOND_DAY}").collect()}
    place = (41 + 1) / (161 + 20)
    wanted = {"search": (40 + 20 * place) / 100, "carousel": 20 * place / 100, "small": (1 + 20 * place) / 21}
    assert found == pytest.approx({f"/{name}": wanted.get(name, place) for name in (*wanted, "new", "None")}, abs=2e-6)


def test_a_clock_that_runs_ahead_ends_nobodys_window(events: Events) -> None:
    fast = act("page_view", 117, "fast", anonymous_id="fast", received_at=to_millis(NOON + timedelta(minutes=59)))
    rows = events(act("impression", 55, "shown"), act("page_view", 59, "honest", anonymous_id="bob"), fast)
    recent, _, as_of = examples.lately(rows, 90)
    assert as_of == NOON + timedelta(minutes=59)
    assert examples.ripe(recent, nowhere(rows), as_of, LABEL).isEmpty()


def test_a_click_is_of_one_impression_whichever_are_ripe(events: Events) -> None:
    rows = events(act("impression", 0, "first"), act("impression", 20, "second"), act("click", 25, "click")).persist()
    as_of = NOON + timedelta(minutes=40)
    shown = examples.ripe(rows, nowhere(rows), as_of, LABEL)
    assert [row["clicked"] for row in examples.build(shown, rows, seen(rows), as_of, LABEL).collect()] == [False]


def test_anonymous_mode_has_no_features(events: Events) -> None:
    rows = events(act("impression", 0, "shown"), act("click", 1, "nobody", anonymous_id=None)).persist()
    known, moments = (
        seen(rows),
        rows.selectExpr("event_id AS moment_id", "visitor_id", "unix_millis(occurred_at) AS time"),
    )
    planned = values.at_moments(known, moments.dropna(), ["visitor_id"], VISITOR)
    assert "atleastnnonnulls(1, visitor_id" in planned._jdf.queryExecution().optimizedPlan().toString()


def test_clicks_without_impressions_make_no_rate_above_one_anywhere(events: Events) -> None:
    clicks = [act("click", n, f"c{n}") for n in range(60)]
    rows = events(*clicks, act("impression", 24 * 60, "shown"), act("impression", 48 * 60 + 1, "again")).persist()
    at = LATER + timedelta(minutes=40)
    made = examples.build(examples.ripe(rows, nowhere(rows), at, LABEL), rows, seen(rows), at, LABEL).collect()
    rates = [(row["expected_clicks"], row["item_click_rate_30d"], row["visitor_click_rate_30d"]) for row in made]
    assert len(rates) == 2 and all(0 < rate < 0.2 for row in rates for rate in row)


def test_windows_of_the_oldest_impressions_are_whole(events: Events) -> None:
    day = 24 * 60
    views = [act("page_view", -n * day - 1, f"v{n}") for n in range(30)]
    rows = events(*views, act("impression", 0, "oldest"), act("page_view", 90 * day - 5, "newest")).persist()
    recent, known, as_of = examples.lately(rows, 90)
    assert as_of is not None
    shown = examples.ripe(recent, nowhere(rows), as_of, LABEL)
    [made] = examples.build(shown, known, seen(known), as_of, LABEL).collect()
    assert (made["item_views_30d"], made["item_views_7d"]) == (30, 7)


def test_each_of_two_lists_knows_its_own_place(events: Events) -> None:
    def day(position: int, clicks: int) -> list[ClickEvent]:
        at = {"position": position, "item_id": f"/{position}"}
        shown = [act("impression", n, f"s{position}-{n}", **at) for n in range(40)]
        return shown + [act("click", n + 0.5, f"c{position}-{n}", **at) for n in range(clicks)]

    places = [act("impression", 24 * 60, f"at {place}", list_id=f"list {place}", position=place) for place in (0, 9)]
    rows = events(*day(0, 20), *day(9, 0), *places).persist()
    shown = examples.ripe(rows, nowhere(rows), LATER, LABEL)
    made = examples.build(shown, rows, seen(rows), LATER, LABEL).filter("list_id LIKE 'list%'").collect()
    assert {row["position"]: row["expected_clicks"] for row in made} == pytest.approx({0: 0.35, 9: 1 / 60}, abs=1e-6)


def test_a_weeks_hours_share_all_views(events: Events) -> None:
    rows = events(*(act("page_view", 60 * n, f"v{n}") for n in range(3)), act("click", 0, "c"))
    profile = {row["hour_of_week"]: row for row in aggregates.weekly_profile(rows, LATER).collect()}
    assert len(profile) == 168 and sum(row["share"] for row in profile.values()) == pytest.approx(1, abs=1e-4)
    sunday_noon = 6 * 24 + 12
    assert [profile[sunday_noon + n]["views"] for n in range(-1, 4)] == [0, 1, 1, 1, 0]
    assert profile[sunday_noon]["share"] == pytest.approx(2 / 171, abs=1e-6)
