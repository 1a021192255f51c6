"""Sessions: where they begin and end, whose they are, and that a rerun changes nothing."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from ingest.events import ClickEvent, Device, Page, to_millis
from processing import sessions, tables
from tests.integration.conftest import Events, click
from tests.integration.test_curate import NOON

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, Row, SparkSession

GAP = timedelta(minutes=30)


def at(minutes: float, name: str, **fields: object) -> ClickEvent:
    """A page view of /<name> so many minutes after noon."""
    when = to_millis(NOON + timedelta(minutes=minutes))
    path = f"/{name}"
    return click(**{"message_id": name, "occurred_at": when, "page": Page(path=path), "item_id": path} | fields)


def built(rows: DataFrame) -> list[Row]:
    return sessions.build(rows, GAP).orderBy("visitor_id", "is_bot", "started_at").collect()


def test_a_pause_longer_than_the_gap_begins_a_new_session(events: Events) -> None:
    first, second = built(events(at(31, "c"), at(0, "a"), at(61.01, "d"), at(1, "b")))
    assert (first["events"], first["entry_page"], first["exit_page"], first["duration_seconds"]) == (
        3,
        "/a",
        "/c",
        1860,
    )
    assert (second["events"], second["bounced"]) == (1, True)
    assert second["started_at"] > first["ended_at"]
    assert first["session_id"] != second["session_id"]


def test_each_visitor_has_sessions_apart_and_bots_theirs(events: Events) -> None:
    rows = built(
        events(
            at(0, "a", anonymous_id="ann"),
            at(1, "b", anonymous_id=None, user_id="bob"),
            at(2, "c", anonymous_id="ann", device=Device(is_bot=True)),
            at(3, "d", anonymous_id=None),
        )
    )
    found = [(row["visitor_id"], row["is_bot"], row["events"]) for row in rows]
    assert found == [("ann", False, 1), ("ann", True, 1), ("bob", False, 1)]


def test_sequence_orders_what_happened_at_the_same_time(events: Events) -> None:
    [session] = built(events(at(0, "b", sequence=2), at(0, "c", sequence=3), at(0, "a", sequence=1)))
    assert (session["entry_page"], session["exit_page"]) == ("/a", "/c")


def test_what_a_session_tells(events: Events) -> None:
    [session] = built(
        events(
            at(0, "a", campaign={"source": "mail"}, page=Page(path="/a", referrer="https://x.example/")),
            at(1, "b", event_type="impression", page=Page(path="/elsewhere")),
            at(2, "b2", item_id="/b", event_type="purchase", user_id="u", device=Device(browser="Lynx")),
        )
    )
    assert (session["page_views"], session["events"], session["items"]) == (1, 3, 2)
    assert (session["entry_page"], session["exit_page"], session["referrer"]) == ("/a", "/a", "https://x.example/")
    assert (session["campaign"], session["device_type"], session["user_id"]) == ({"source": "mail"}, "desktop", "u")
    assert (session["converted"], session["bounced"], session["batches"]) == (True, False, [1])


def merge(spark: SparkSession, all_events: DataFrame, batch: int) -> list[tuple[str, int, list[int]]]:
    """What the job does; the table's rows."""
    visitors = sessions.touched(all_events, batch).persist()
    new = sessions.build(all_events.join(visitors, on="visitor_id", how="left_semi"), GAP)
    tables.create(spark, tables.SESSIONS)
    current = tables.read(spark, tables.SESSIONS)
    tables.replace_matching(spark, tables.SESSIONS, sessions.replacement(new, current, visitors), "session_id")
    rows = tables.read(spark, tables.SESSIONS).orderBy("visitor_id", "started_at")
    return [(row["visitor_id"], row["events"], row["batches"]) for row in rows.collect()]


def test_a_late_event_joins_sessions_and_a_rerun_changes_nothing(
    spark: SparkSession, events: Events, tables_dropped: None
) -> None:
    ann, bob = {"anonymous_id": "ann"}, {"anonymous_id": "bob"}
    first = events(at(0, "a", **ann), at(40, "b", **ann), at(0, "c", **bob)).persist()
    apart = [("ann", 1, [1]), ("ann", 1, [1]), ("bob", 1, [1])]
    assert merge(spark, first, 1) == apart
    assert merge(spark, first, 1) == apart
    both = first.unionByName(events(at(20, "late", **ann), batch=2)).persist()
    joined = [("ann", 3, [1, 2]), ("bob", 1, [1])]
    assert merge(spark, both, 2) == joined
    assert merge(spark, both, 1) == joined
