"""Sessions: where they begin and end, whose they are, and that a rerun changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from pyspark.sql import functions as F

from infra.settings import Settings
from ingest.event.event import ClickEvent, Device, Page, to_millis
from processing.events import sessions
from processing.jobs import build_sessions
from processing.runtime.job import Job
from processing.tables import iceberg, schemas
from storage.batches.cuts import Cut
from storage.layout import Layout
from tests.fakes import FakeHdfs
from tests.support.events import NOON, click
from tests.support.spark import Events

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


def test_a_session_without_a_page_is_no_bounce(events: Events) -> None:
    rows = events(
        at(0, "a"),
        at(1, "beat", event_type="custom"),
        at(100, "ping", event_type="custom"),
        at(200, "shown", event_type="impression"),
    )
    assert [(row["page_views"], row["bounced"]) for row in built(rows)] == [(1, True), (0, False), (0, False)]


Told = dict[str, list[tuple[str, int, list[int]]]]  # visitor -> sessions in their order: person, events, batches


@pytest.fixture
def build(spark: SparkSession, tables_dropped: None, tmp_path: Path) -> Callable[[DataFrame, int], None]:
    """Publishes a batch's events and runs the job on it."""
    settings = Settings(home=tmp_path)

    def work(rows: DataFrame, batch: int) -> None:
        cut = Cut(str(batch), batch, "clicks", "2026-05-17T12:00:00+00:00", {}, {})
        this = Job(settings, spark, FakeHdfs(), Layout("/clickstream", "clicks"), cut)
        this.overwrite(schemas.EVENTS, rows.filter(f"batch = {batch}"))
        build_sessions.work(this)

    return work


@pytest.fixture
def run(spark: SparkSession, build: Callable[[DataFrame, int], None]) -> Callable[[DataFrame, int], Told]:
    """The same; gives all sessions."""

    def work(rows: DataFrame, batch: int) -> Told:
        build(rows, batch)
        told: Told = {}
        for row in iceberg.read(spark, schemas.SESSIONS).orderBy("visitor_id", "started_at").collect():
            told.setdefault(row["visitor_id"], []).append((row["person_id"], row["events"], row["batches"]))
        return told

    return work


def test_batches_in_any_order_and_again_give_the_sessions_and_people_of_all_their_events(
    events: Events, run: Callable[[DataFrame, int], Told]
) -> None:
    """Ann has a late event between two sessions, Max goes on over midnight, Eve is u1, then u2, then u1 again."""

    def visits(batch: int, visitor: str, *minutes: float, **fields: object) -> list[ClickEvent]:
        return [at(minute, f"{batch}-{visitor}-{minute}", anonymous_id=visitor, **fields) for minute in minutes]

    evening = 11 * 60  # after noon
    batches = {
        1: [
            *visits(1, "ann", 0, 40, 300),
            *visits(1, "bob", 0),
            *visits(1, "max", evening, evening + 100, evening + 160),
            *visits(1, "eve", 0, 100, 200, 300, 400, 600),
        ],
        2: [
            *visits(2, "ann", 20),
            *visits(2, "max", evening + 25, evening + 130),
            *visits(2, "eve", 210, user_id="u1", event_type="identify"),
        ],
        3: [
            *visits(3, "max", evening + 50, evening + 75, evening + 400),
            *visits(3, "eve", 390, user_id="u2"),
            *visits(3, "eve", 500, user_id="u1"),  # logs in again, on the same browser
        ],
        4: visits(4, "eve", 90, user_id="u1"),
    }
    rows = {number: events(*made, batch=number).persist() for number, made in batches.items()}
    bob, last = [("bob", 1, [1])], [("u1", 1, [3]), ("u1", 1, [1])]
    assert run(rows[3], 3) == {"max": [("max", 2, [3]), ("max", 1, [3])], "eve": [("u2", 1, [3]), ("u1", 1, [3])]}
    assert run(rows[1], 1) == {
        "ann": [("ann", 1, [1])] * 3,
        "bob": bob,
        "max": [("max", 1, [1]), ("max", 3, [1, 3]), ("max", 1, [1]), ("max", 1, [3])],
        "eve": [("eve", 1, [1])] * 4 + [("u2", 2, [1, 3]), *last],
    }
    joined = {
        "ann": [("ann", 3, [1, 2]), ("ann", 1, [1])],
        "bob": bob,
        "max": [("max", 7, [1, 2, 3]), ("max", 1, [3])],
    }
    known = [("u1", 2, [1, 2]), ("u1", 1, [1]), ("u2", 2, [1, 3]), *last]
    assert run(rows[2], 2) == joined | {"eve": [("eve", 1, [1])] * 2 + known}
    since_earlier = joined | {"eve": [("eve", 1, [1]), ("u1", 2, [1, 4]), *known]}
    assert run(rows[4], 4) == since_earlier
    assert run(rows[4], 4) == since_earlier
    assert run(rows[1], 1) == since_earlier


def test_each_login_on_a_shared_browser_counts_in_whatever_order_batches_come(
    events: Events, run: Callable[[DataFrame, int], Told]
) -> None:
    def seen(batch: int, *sightings: tuple[int, str | None]) -> DataFrame:
        return events(
            *(at(minute, f"{minute}", anonymous_id="kim", user_id=user) for minute, user in sightings), batch=batch
        )

    rows = {
        1: seen(1, (0, "anna"), (400, "anna"), (420, "bert"), (425, "anna")),
        2: seen(2, (200, "bert")),
        3: seen(3, *((minute, None) for minute in (100, 300, 500, 900))),
    }
    for number in (3, 1, 2):
        told = run(rows[number], number)
    assert [person for person, *_ in told["kim"]] == ["anna", "anna", "bert", "bert", "anna", "anna", "anna"]


def test_a_batch_opens_no_file_of_other_days_and_is_not_refused_for_their_rows(
    events: Events, build: Callable[[DataFrame, int], None], spark: SparkSession
) -> None:
    """The links of Old and New lie in different buckets; one of Old's sessions is of nobody."""
    days_ago = -5 * 24 * 60
    build(events(*(at(days_ago + n, f"old-{n}", anonymous_id="old", user_id="u1") for n in (0, 100)), batch=11), 11)
    sessions_, links = schemas.SESSIONS.full_name, schemas.IDENTITIES.full_name
    spark.sql(f"UPDATE {sessions_} SET person_id = NULL WHERE visitor_id = 'old' AND exit_page = '/old-100'")
    same_bucket = "clickstream.system.bucket(256, visitor_id) = clickstream.system.bucket(256, 'old')"
    of_old = {sessions_: F.col("started_at") < F.lit(NOON - timedelta(days=1)), links: F.expr(same_bucket)}
    rows = [row for table, old in of_old.items() for row in spark.table(table).filter(old).select("_file").collect()]
    files = {Path(row["_file"].removeprefix("file:")) for row in rows}
    assert len(files) == 2
    for file in files:
        file.rename(file.with_suffix(".hidden"))
    build(events(*(at(n, f"new-{n}", anonymous_id="new", user_id="u2") for n in (0, 1)), batch=12), 12)
    for file in files:
        file.with_suffix(".hidden").rename(file)
    found = spark.table(sessions_).filter("visitor_id IN ('old', 'new')").orderBy("started_at")
    told = [tuple(row) for row in found.select("visitor_id", "person_id", "events").collect()]
    assert told == [("old", "u1", 1), ("old", None, 1), ("new", "u2", 2)]
    known = spark.table(links).filter("visitor_id IN ('old', 'new')").orderBy("user_id")
    assert [row["user_id"] for row in known.collect()] == ["u1", "u1", "u2"]  # of Old there are two stretches of time
