"""Synthetic shoppers: the same seed is the same truth."""

from __future__ import annotations

import itertools
import json
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from ingest import commands
from ingest.event.context import Context
from ingest.event.event import EVENT_TYPES
from ingest.protocols import native
from ingest.tools.simulate import World, events, truth

WORLD = World(visitors=300, seed=7)


@pytest.fixture(scope="module")
def shopped() -> list[dict[str, Any]]:
    return list(events(WORLD))


def views(shopped: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [event for event in shopped if event["event_type"] == "page_view" and "item_id" in event]


def test_the_same_seed_gives_the_same_events(shopped: list[dict[str, Any]]) -> None:
    assert list(events(WORLD)) == shopped
    assert list(events(World(300, 8))) != shopped


def test_more_visitors_do_not_change_those_before() -> None:
    few, more = ({e["message_id"].partition(":")[2] for e in events(World(n, 7))} for n in (10, 20))  # type: ignore[attr-defined]
    assert few < more


def test_message_ids_are_unique_and_differ_between_worlds(shopped: list[dict[str, Any]]) -> None:
    ids = {event["message_id"] for event in shopped}
    assert len(ids) == len(shopped)
    assert ids.isdisjoint(event["message_id"] for event in events(World(10, 7, days=3)))


def test_every_event_is_valid(shopped: list[dict[str, Any]]) -> None:
    context = Context("demo", 1_795_245_567_000, run=WORLD.run)
    parsed = [native.parse(event, context) for event in shopped]
    assert not any(event.flags or event.device.is_bot for event in parsed)
    assert (
        {event.event_type for event in parsed}
        == {*("page_view", "impression", "click", "add_to_cart", "purchase")}
        < set(EVENT_TYPES)
    )


def test_visitors_mostly_view_what_they_like(shopped: list[dict[str, Any]]) -> None:
    tastes = truth(WORLD)
    hits = [tastes.visitors[view["anonymous_id"]] == tastes.items[view["item_id"]] for view in views(shopped)]
    assert len(hits) > 3000
    assert 0.7 < sum(hits) / len(hits) < 0.9
    assert len(set(tastes.visitors.values())) == WORLD.tastes == len(set(tastes.items.values()))


def test_popularity_is_skewed(shopped: list[dict[str, Any]]) -> None:
    counts = [count for _, count in Counter(view["item_id"] for view in views(shopped)).most_common()]
    assert len(counts) > 0.9 * WORLD.items
    assert sum(counts[:20]) > 2.5 * sum(counts) * 20 / WORLD.items


def test_visitors_return_and_new_items_appear_in_the_second_half(shopped: list[dict[str, Any]]) -> None:
    days: dict[str, set[int]] = defaultdict(set)
    first: dict[str, int] = {}
    start = 1_767_225_600_000
    for view in views(shopped):
        days[view["anonymous_id"]].add((view["occurred_at"] - start) // 86_400_000)
        first[view["item_id"]] = min(first.get(view["item_id"], 2**62), view["occurred_at"])
    assert sum(len(seen) > 1 for seen in days.values()) > 0.7 * len(days)
    middle = start + WORLD.days * 86_400_000 // 2
    assert sum(at >= middle for at in first.values()) >= 0.08 * WORLD.items


def test_visitors_look_at_the_upper_places_and_click_what_they_like(shopped: list[dict[str, Any]]) -> None:
    tastes = truth(WORLD)
    liked: dict[str, Counter[int]] = {"impression": Counter(), "click": Counter()}
    other: dict[str, Counter[int]] = {"impression": Counter(), "click": Counter()}
    for event in shopped:
        if event["event_type"] in liked:
            same = tastes.visitors[event["anonymous_id"]] == tastes.items[event["item_id"]]
            (liked if same else other)[event["event_type"]][event["position"]] += 1
    assert set(liked["impression"]) == set(range(WORLD.shown)) == set(range(len(tastes.places)))
    for place, looked_at in enumerate(tastes.places):
        rate = liked["click"][place] / liked["impression"][place]
        assert rate == pytest.approx(looked_at * WORLD.appeal[0], abs=0.15)
    assert liked["click"][0] > 2 * liked["click"][5] > 0
    assert other["click"].total() / other["impression"].total() < 0.06


def test_visits_begin_in_the_evening_and_at_weekends(shopped: list[dict[str, Any]]) -> None:
    visits = [
        event["occurred_at"] for event in shopped if event["event_type"] == "page_view" and "item_id" not in event
    ]
    hours = Counter((at // 3_600_000 - 96) % 168 for at in visits)
    planted = truth(WORLD).hours
    assert sum(planted) == pytest.approx(1)
    evening = [hour for hour in range(168) if 17 <= hour % 24 < 24]
    assert sum(hours[h] for h in evening) / len(visits) == pytest.approx(sum(planted[h] for h in evening), abs=0.05)
    weekend = sum(hours[h] for h in range(120, 168)) / len(visits)
    assert weekend == pytest.approx(sum(planted[120:]), abs=0.05)


def test_a_visitors_events_are_in_order(shopped: list[dict[str, Any]]) -> None:
    for _, group in itertools.groupby(shopped, key=lambda event: event["anonymous_id"]):
        own = list(group)
        assert [event["sequence"] for event in own] == list(range(1, len(own) + 1))
        assert [event["occurred_at"] for event in own] == sorted(event["occurred_at"] for event in own)


def test_the_command_writes_json_lines(tmp_path: Path) -> None:
    out = tmp_path / "s.jsonl"
    result = CliRunner().invoke(
        commands.simulate, ["--visitors", "5", "--seed", "1", "--out", str(out), "--json"], catch_exceptions=False
    )
    facts = json.loads(result.stdout)
    lines = out.read_text().splitlines()
    assert facts["events"] == len(lines) > 0
    assert [json.loads(line) for line in lines] == list(events(World(5, 1)))
