"""What a feature is worth at a moment, and where a moment lies in the week."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from processing.feature_definitions import (
    COVISIT,
    ITEM,
    PAIR,
    VISITOR,
    Count,
    Decayed,
    Expected,
    Rate,
    Recency,
    compute,
    follows,
    hour_of_week,
    season,
)

HOUR, DAY = 3_600_000, 86_400_000
NOW = 100 * DAY


def test_a_window_ends_before_the_moment_and_begins_with_its_first_millisecond() -> None:
    views = Count("views", ("page_view",), timedelta(days=1))
    times = [NOW, NOW - 1, NOW - DAY, NOW - DAY - 1]
    assert compute([views], [(time, "page_view", 0.0) for time in times], NOW) == {"views": 2}
    assert compute([Count("ever", ("page_view",))], [(time, "page_view", 0.0) for time in times], NOW) == {"ever": 3}


def test_values_of_a_history() -> None:
    clicks, shown = Count("clicks", ("click",), timedelta(days=7)), Expected("expected", timedelta(days=7))
    features = [
        shown,
        Rate("lift", clicks, shown, prior=1.0, strength=1.0),
        Decayed("demand", {"click": 1.0, "purchase": 5.0}, timedelta(days=1)),
        Recency("since", ("click", "purchase")),
    ]
    events = [
        (NOW - DAY, "click", 0.1),
        (NOW - DAY, "impression", 0.25),
        (NOW - 2 * DAY, "impression", 0.25),
        (NOW - 8 * DAY, "impression", 0.25),
        (NOW - 12 * HOUR, "purchase", 0.0),
    ]
    assert compute(features, events, NOW) == {
        "expected": 0.5,
        "lift": pytest.approx(2 / 1.5),
        "demand": pytest.approx(0.5 + 5 * 0.5**0.5),
        "since": 0.5,
    }
    assert compute(features, [], NOW) == {"expected": 0, "lift": 1.0, "demand": 0.0, "since": None}


def test_a_share_is_none_of_more_than_all_though_clicks_come_without_impressions() -> None:
    clicks, shown = (Count(name, (name,), timedelta(days=7)) for name in ("click", "impression"))
    share = Rate("share", clicks, shown, prior=0.05, strength=20.0)
    events = [(NOW - DAY, "click", 0.0)] * 30 + [(NOW - DAY, "impression", 0.05)]
    assert compute([share], events, NOW) == {"share": pytest.approx(2 / 21)}


def test_a_view_follows_the_few_that_came_shortly_before_each_item_once() -> None:
    half = HOUR // 2
    views = [(NOW, "a"), (NOW + 1, "b"), (NOW + half, "a"), (NOW + half + 1, "c")]
    found = [(last, item) for last, item, _ in follows(reversed(views))]
    assert found == [("a", "b"), ("b", "a"), ("a", "c"), ("b", "c")]  # of a by the second view: the first is too old
    many = [(NOW + n, str(n)) for n in range(8)]
    assert [last for last, item, _ in follows(many) if item == "7"] == ["2", "3", "4", "5", "6"]
    assert follows([(NOW, "a"), (NOW + 1, "a")]) == []
    known = [event for last, item, event in follows(views) if (last, item) == ("a", "b")]
    assert compute(COVISIT, known, NOW + 1)["views_7d"] == 0 and compute(COVISIT, known, NOW + 2)["views_7d"] == 1


def test_names_of_a_subject_are_unique() -> None:
    for features in (ITEM, VISITOR, PAIR, COVISIT):
        names = [feature.name for feature in features]
        assert len(set(names)) == len(names)


def test_midnight_of_a_monday_is_where_both_circles_begin() -> None:
    monday = int(datetime(2026, 5, 18, tzinfo=UTC).timestamp() * 1000)
    assert season(monday) == pytest.approx({"day_sin": 0.0, "day_cos": 1.0, "week_sin": 0.0, "week_cos": 1.0})
    assert season(monday + 6 * HOUR)["day_sin"] == pytest.approx(1.0)
    assert (hour_of_week(monday), hour_of_week(monday - 1), hour_of_week(monday + 30 * HOUR)) == (0, 167, 30)
