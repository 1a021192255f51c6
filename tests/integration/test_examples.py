"""Training examples: which impressions, which labels, and that none knows its future."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from ingest.events import ClickEvent, Device, to_millis
from processing import examples, features, leaks
from tests.integration.conftest import Events, click
from tests.integration.test_curate import NOON

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

LABEL = timedelta(minutes=30)
LATER = NOON + timedelta(days=2)


def act(event_type: str, minutes: float, name: str, **fields: object) -> ClickEvent:
    when = to_millis(NOON + timedelta(minutes=minutes))
    return click(**{"message_id": name, "event_type": event_type, "occurred_at": when, "position": 0} | fields)


def seen(rows: DataFrame) -> DataFrame:
    return features.occurrences(rows, features.position_rates(rows)).localCheckpoint()


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
    assert honest.count() == 12 and not leaks.find(honest, seen(rows))

    at_the_end = features.item_features(rows, seen(rows), LATER).select("item_id", "clicks_30d")
    joined = at_the_end.withColumnRenamed("clicks_30d", "item_clicks_30d")
    leaky = honest.drop("item_clicks_30d").join(joined, "item_id")
    [finding] = leaks.find(leaky, seen(rows))
    assert finding.rows > 3 and finding.examples[0]["columns"] == "item_clicks_30d"


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
    assert not leaks.find(made, seen(rows))
    leaky = made.selectExpr("* EXCEPT (covisit_views_7d)", "covisit_views_30d + 1 AS covisit_views_7d")
    [finding] = leaks.find(leaky, seen(rows))
    assert {one["columns"] for one in finding.examples} == {"covisit_views_7d"}


def test_what_stood_at_a_good_place_is_expected_to_be_clicked_more(events: Events) -> None:
    def day(number: int, position: int, clicks: int) -> list[ClickEvent]:
        at = {"position": position, "item_id": f"/{position}"}
        start = number * 24 * 60
        shown = [act("impression", start + n, f"s{number}-{position}-{n}", **at) for n in range(10)]
        return shown + [act("click", start + n + 0.5, f"c{number}-{position}-{n}", **at) for n in range(clicks)]

    rows = events(*day(0, 0, 8), *day(0, 5, 1), *day(1, 0, 0), *day(1, 5, 0)).persist()
    rates = {(row["day"].day, row["position"]): row["click_rate"] for row in features.position_rates(rows).collect()}
    assert rates == {(17, 0): 0.05, (17, 5): 0.05, (18, 0): 0.3, (18, 5): 0.066667}
    second_day = seen(rows).filter("event_type = 'impression'").groupBy("item_id").max("expected_clicks").collect()
    assert {row[0]: row[1] for row in second_day} == pytest.approx({"/0": 0.3, "/5": 0.066667}, abs=1e-6)


def test_a_weeks_hours_share_all_views(events: Events) -> None:
    rows = events(*(act("page_view", 60 * n, f"v{n}") for n in range(3)), act("click", 0, "c"))
    profile = {row["hour_of_week"]: row for row in features.weekly_profile(rows, LATER).collect()}
    assert len(profile) == 168 and sum(row["share"] for row in profile.values()) == pytest.approx(1, abs=1e-4)
    sunday_noon = 6 * 24 + 12
    assert [profile[sunday_noon + n]["views"] for n in range(-1, 4)] == [0, 1, 1, 1, 0]
    assert profile[sunday_noon]["share"] == pytest.approx(2 / 171, abs=1e-6)
