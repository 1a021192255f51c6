"""Sessions: where they begin and end, whose they are, and that a rerun changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from infra.settings import Settings
from ingest.events import ClickEvent, Device, Page, to_millis
from processing import iceberg, sessions, tables
from processing.job import Job
from processing.jobs import build_sessions
from storage.batches import Cut
from storage.layout import Layout
from tests.fakes import FakeHdfs
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


Told = list[tuple[str, str, int, list[int]]]


@pytest.fixture
def run(spark: SparkSession, tables_dropped: None, tmp_path: Path) -> Callable[[DataFrame, int], Told]:
    """Publishes a batch's events and runs the job on it; gives all sessions: visitor, person, events, batches."""
    settings = Settings(home=tmp_path)

    def work(rows: DataFrame, batch: int) -> Told:
        cut = Cut(str(batch), batch, "clicks", "2026-05-17T12:00:00+00:00", {}, {})
        this = Job(settings, spark, FakeHdfs(), Layout("/clickstream", "clicks"), cut)
        this.overwrite(tables.EVENTS, rows.filter(f"batch = {batch}"))
        build_sessions.work(this)
        rows = iceberg.read(spark, tables.SESSIONS).orderBy("visitor_id", "started_at")
        return [(row["visitor_id"], row["person_id"], row["events"], row["batches"]) for row in rows.collect()]

    for table in (tables.EVENTS, tables.SESSIONS, tables.IDENTITIES):
        spark.sql(f"DROP TABLE IF EXISTS {table.full_name}")
    return work


def test_a_late_event_joins_sessions_and_a_rerun_changes_nothing(
    events: Events, run: Callable[[DataFrame, int], Told]
) -> None:
    ann, bob = {"anonymous_id": "ann"}, {"anonymous_id": "bob"}
    first = events(at(0, "a", **ann), at(40, "b", **ann), at(300, "z", **ann), at(0, "c", **bob)).persist()
    apart = [("ann", "ann", 1, [1])] * 3 + [("bob", "bob", 1, [1])]
    assert run(first, 1) == apart
    assert run(first, 1) == apart
    late = events(at(20, "late", **ann), batch=2).persist()
    joined = [("ann", "ann", 3, [1, 2]), ("ann", "ann", 1, [1]), ("bob", "bob", 1, [1])]
    assert run(late, 2) == joined
    assert run(first, 1) == joined


def test_batches_in_any_order_give_the_sessions_of_all_their_events(
    events: Events, run: Callable[[DataFrame, int], Told]
) -> None:
    evening = 11 * 60  # after noon: the first session goes on over midnight
    minutes = {3: [50, 75, 400], 1: [0, 100, 160], 2: [25, 130]}
    for batch, times in minutes.items():
        told = run(events(*(at(evening + n, f"{batch}-{n}") for n in times), batch=batch), batch)
    assert told == [("ann", "ann", 7, [1, 2, 3]), ("ann", "ann", 1, [3])]


def test_a_visitor_is_known_as_a_user_from_the_first_event_that_says_so(
    events: Events, run: Callable[[DataFrame, int], Told]
) -> None:
    def people(rows: DataFrame, batch: int) -> list[str]:
        return [person for _, person, _, _ in run(rows, batch)]

    visits = events(*(at(minutes, f"m{minutes}") for minutes in (0, 100, 200, 300, 400))).persist()
    assert people(visits, 1) == ["ann"] * 5
    login = events(at(210, "login", user_id="u1", event_type="identify"), batch=2)
    assert people(login, 2) == ["ann", "ann", "u1", "u1", "u1"]
    other = events(at(390, "other", user_id="u2"), batch=3)
    assert people(other, 3) == ["ann", "ann", "u1", "u1", "u2"]
    late = events(at(90, "late", user_id="u1"), batch=4)
    assert people(late, 4) == ["ann", "u1", "u1", "u1", "u2"]
    assert people(visits, 1) == ["ann", "u1", "u1", "u1", "u2"]
