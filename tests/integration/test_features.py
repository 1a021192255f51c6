"""Features are those of the data's own time, and bots tell nothing of interest."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ingest.event.event import ClickEvent, Device, Page, to_millis
from processing.feature_definitions import WEIGHTS
from processing.features import aggregates
from processing.tables import event_times, iceberg, publish, schemas
from tests.support.events import NOON, click
from tests.support.spark import Events

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

BOT = Device(is_bot=True)


def seen(rows: DataFrame) -> DataFrame:
    return aggregates.occurrences(rows, aggregates.position_rates(rows))


def test_time_is_that_of_the_newest_event_whose_clock_is_trusted(events: Events) -> None:
    rows = events(
        click(message_id="a", occurred_at=to_millis(NOON)),
        click(message_id="b", occurred_at=to_millis(NOON - timedelta(days=1))),
        click(message_id="c", occurred_at=to_millis(NOON + timedelta(days=900)), flags=("odd_clock",)),
    )
    assert event_times.newest(rows) == NOON
    assert event_times.newest(rows.limit(0)) is None


def test_clocks_that_run_ahead_move_nobodys_time_and_history_keeps_its_own(events: Events) -> None:
    def sent(minute: int, ahead: int, received: timedelta = timedelta(0)) -> ClickEvent:
        told, at = NOON + timedelta(minutes=minute + ahead), NOON + timedelta(minutes=minute) + received
        return click(message_id=f"{minute}-{ahead}", occurred_at=to_millis(told), received_at=to_millis(at))

    fast = [sent(minute, ahead) for minute, ahead in ((1, 58), (2, 40), (3, 21), (4, 0))]
    assert event_times.newest(events(*fast)) == NOON + timedelta(minutes=4)
    recent, _ = event_times.lately(events(*fast), 7)
    assert [row["message_id"] for row in recent.collect()] == ["4-0"]
    history = [sent(minute, 0, timedelta(days=4_000)) for minute in range(3)]
    assert event_times.newest(events(*history)) == NOON + timedelta(minutes=2)
    in_two = events(*history, batch=2).unionByName(events(*fast))
    assert event_times.newest(in_two) == NOON + timedelta(minutes=4)


def test_the_time_of_a_batch_is_told_without_opening_older_files(
    spark: SparkSession, events: Events, tables_dropped: None
) -> None:
    for batch, minute in ((1, 0), (2, 10)):
        rows = events(click(occurred_at=to_millis(NOON + timedelta(minutes=minute))), batch=batch)
        publish.overwrite(spark, schemas.EVENTS, rows, batch, lambda written: None)
    stored = iceberg.read(spark, schemas.EVENTS).filter("batch <= 2")
    [old] = stored.filter("batch = 1").select("_file").collect()
    Path(old[0].removeprefix("file:")).unlink()
    assert event_times.newest(stored, 2) == NOON + timedelta(minutes=10)


def test_an_interaction_weighs_its_events_by_type_and_age(events: Events) -> None:
    old = to_millis(NOON - aggregates.HALF_LIFE)
    rows = events(
        click(message_id="1", occurred_at=to_millis(NOON)),
        click(message_id="2", occurred_at=old),
        click(message_id="3", occurred_at=old, event_type="purchase"),
        click(message_id="4", occurred_at=to_millis(NOON + timedelta(hours=1))),  # ahead of as_of: as new
        click(message_id="5", occurred_at=to_millis(NOON), event_type="impression"),
        click(message_id="6", occurred_at=to_millis(NOON), device=BOT),
        click(message_id="7", occurred_at=to_millis(NOON), item_id=None),
        click(message_id="8", occurred_at=to_millis(NOON), anonymous_id=None),
        click(message_id="9", occurred_at=to_millis(NOON), item_id="/b", anonymous_id=None, user_id="bob"),
    )
    found = aggregates.interactions(rows, NOON).orderBy("visitor_id").collect()
    assert [(row["visitor_id"], row["item_id"], row["events"]) for row in found] == [("ann", "/a", 4), ("bob", "/b", 1)]
    assert found[0]["weight"] == pytest.approx(1 + 0.5 + 0.5 * WEIGHTS["purchase"] + 1)


def test_an_item_is_told_by_its_own_pages(events: Events) -> None:
    rows = events(
        click(message_id="1", page=Page(path="/a", title="A")),
        click(message_id="2", page=Page(path="/a", title="A"), device=BOT),
        click(message_id="3", page=Page(path="/a", title="Other")),
        click(message_id="4", page=Page(path="/", title="Home"), event_type="impression"),
        click(message_id="5", page=Page(path="/", title="Home"), event_type="impression"),
        click(message_id="6", page=Page(path="/", title="Home"), event_type="impression", anonymous_id="bob"),
        click(message_id="7", item_id="/b", page=Page(path="/b")),
        click(message_id="8", item_id="/c", page=Page(path="/", title="Home"), event_type="click"),
        click(message_id="9", item_id=None),
    )
    a, b, c = aggregates.item_features(rows, seen(rows), NOON).orderBy("item_id").collect()
    assert (a["title"], a["path"], b["title"], b["path"], c["title"], c["path"]) == ("A", "/a", "/b", "/b", "/c", "/c")
    assert (a["views"], a["bot_views"], a["impressions"], a["visitors"], c["clicks"]) == (2, 1, 3, 2, 1)
    assert a["popularity"] == pytest.approx(
        2 * 0.5 ** ((to_millis(NOON) - click().occurred_at) / 86_400_000 / 30), 1e-4
    )


def test_a_late_event_changes_the_rows_that_it_touches_and_only_those(events: Events) -> None:
    known = [
        click(message_id="1", occurred_at=to_millis(NOON)),
        click(message_id="2", occurred_at=to_millis(NOON - timedelta(hours=3)), item_id="/b", anonymous_id="bob"),
    ]
    late = click(message_id="3", occurred_at=to_millis(NOON - timedelta(hours=9)))

    def made(*rows: ClickEvent) -> dict[tuple[str, ...], str]:
        frame = events(*rows).persist()
        at = seen(frame)
        made_of = {
            "interactions": (aggregates.interactions(frame, NOON), ("visitor_id", "item_id")),
            "items": (aggregates.item_features(frame, at, NOON), ("item_id",)),
            "visitors": (aggregates.visitor_features(frame, at, NOON), ("visitor_id",)),
        }
        found = [(name, keys, row) for name, (table, keys) in made_of.items() for row in table.collect()]
        return {(name, *(row[key] for key in keys)): str(row) for name, keys, row in found}

    before, after = made(*known), made(*known, late)
    assert before.keys() == after.keys()
    changed = {row for row in after if after[row] != before[row]}
    assert changed == {("interactions", "ann", "/a"), ("items", "/a"), ("visitors", "ann")}


def test_what_a_clock_that_runs_ahead_says_is_not_looked_at(events: Events) -> None:
    rows = events(
        click(message_id="1", occurred_at=to_millis(NOON)),
        click(message_id="2", occurred_at=to_millis(NOON + timedelta(days=30_000)), flags=("odd_clock",)),
        click(message_id="3", occurred_at=to_millis(NOON - timedelta(days=9))),
    )
    recent, as_of = event_times.lately(rows, 7)
    assert ([row["message_id"] for row in recent.collect()], as_of) == (["1"], NOON)


def test_a_moment_is_found_among_few_times_and_among_many(spark: SparkSession) -> None:
    few = spark.createDataFrame([(n,) for n in (5, 6, 7, 8, 9)], "time BIGINT")
    assert [event_times.moment(few, few["time"], share) for share in (0.0, 0.5, 1.0)] == [5, 7, 9]
    many = spark.range(0, 2_000_000_000_000, 10_000_000)
    found = event_times.moment(many, many["id"], 0.8)
    assert found is not None and abs(found - 1_600_000_000_000) <= 40_000_000  # two steps
    assert event_times.moment(few.limit(0), few["time"], 0.8) is None


def test_a_visitor_has_one_row_and_a_bot_is_marked(events: Events) -> None:
    day = timedelta(days=1)
    rows = events(
        click(message_id="1", occurred_at=to_millis(NOON - 3 * day)),
        click(message_id="2", occurred_at=to_millis(NOON - day), item_id="/b", event_type="add_to_cart"),
        click(message_id="3", anonymous_id="bot", device=BOT),
        click(message_id="4", anonymous_id=None),
    )
    ann, bot = aggregates.visitor_features(rows, seen(rows), NOON).orderBy("visitor_id").collect()
    assert (ann["events"], ann["page_views"], ann["items"], ann["add_to_carts"]) == (2, 1, 2, 1)
    assert (ann["recency_days"], ann["is_bot"], bot["is_bot"]) == (1.0, False, True)


def test_pairs_of_items_are_remembered_for_a_month(events: Events) -> None:
    def visit(name: str, days: float, *items: str) -> list[ClickEvent]:
        start = to_millis(NOON - timedelta(days=days))
        times = enumerate(range(start, start + 1000 * len(items), 1000))
        return [
            click(message_id=f"{name}-{n}", anonymous_id=name, item_id=items[n], occurred_at=time) for n, time in times
        ]

    rows = events(
        *visit("ann", 1, "/a", "/b", "/a"),
        *visit("bob", 10, "/a", "/b"),
        *visit("cyd", 30 + 1 / 86_400, "/b", "/c"),  # the second view just as long ago as is forgotten
        click(message_id="bot", anonymous_id="ann", item_id="/d", device=BOT, occurred_at=to_millis(NOON)),
    )
    found = aggregates.covisitation(seen(rows), NOON).orderBy("last_item_id", "item_id").collect()
    assert [tuple(row)[:4] for row in found] == [("/a", "/b", 1.0, 2.0), ("/b", "/a", 1.0, 1.0)]
    visitors = aggregates.visitor_features(rows, seen(rows), NOON).collect()
    assert {row["visitor_id"]: row["last_item_id"] for row in visitors} == {"ann": "/a", "bob": "/b", "cyd": "/c"}
