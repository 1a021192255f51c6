"""Curation: every landed record has exactly one outcome, and a rerun gives the same."""

from __future__ import annotations

import io
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import fastavro
from pyspark.sql import functions as F

from ingest.event.codec import SCHEMA, encode, split
from ingest.event.event import ClickEvent, Source, to_millis
from processing.events import curate, raw
from processing.tables import iceberg, publish, schemas
from storage.formats.envelope import event_envelope
from tests.support.events import FULL, NOON, click, minimal
from tests.support.spark import KNOWN, Events

if TYPE_CHECKING:
    from pathlib import Path

    from pyspark.sql import DataFrame, SparkSession


def known(spark: SparkSession, *rows: tuple[str, int, int, int], payload_hash: int | None = None) -> DataFrame:
    return spark.createDataFrame([(*row, payload_hash) for row in rows], KNOWN)


def places(rows: DataFrame) -> list[tuple[int, int]]:
    return [(row["partition"], row["offset"]) for row in rows.orderBy("partition", "offset").collect()]


def test_the_first_place_wins_and_each_loser_names_it(spark: SparkSession, raw_rows: Events) -> None:
    twice, once = click(message_id="twice"), click(message_id="once")
    rows = raw_rows((1, 0, twice), (0, 7, twice), (0, 9, twice), (0, 8, once))
    classified = curate.classify(rows, known(spark), batch=3)
    assert places(curate.curated(classified, None, timedelta())) == [(0, 7), (0, 8)]
    losers = curate.duplicates(classified)
    assert places(losers) == [(0, 9), (1, 0)]
    winners = {(row["winner_batch"], row["winner_partition"], row["winner_offset"]) for row in losers.collect()}
    assert winners == {(3, 0, 7)}
    assert curate.invalid(classified).isEmpty()


def test_an_event_of_an_earlier_batch_wins(spark: SparkSession, raw_rows: Events) -> None:
    again = click(message_id="again")
    classified = curate.classify(
        raw_rows((0, 7, again), (0, 8, click(message_id="new"))), known(spark, (again.event_id, 2, 5, 6)), batch=3
    )
    assert places(curate.curated(classified, None, timedelta())) == [(0, 8)]
    [loser] = curate.duplicates(classified).collect()
    assert (loser["offset"], loser["winner_batch"], loser["winner_partition"], loser["winner_offset"]) == (7, 2, 5, 6)


def test_a_duplicate_that_says_something_else_is_told(spark: SparkSession, raw_rows: Events) -> None:
    said = {"properties": {"a": "1", "b": "2"}, "occurred_at": click().occurred_at}
    retried = said | {"properties": {"b": "2", "a": "1"}, "occurred_at": said["occurred_at"] + 5, "ip": "1.2.3.0"}
    rows = raw_rows(
        (0, 0, click(**said)),
        (0, 1, click(**retried)),
        (0, 2, click(**said | {"item_id": "/b"})),
        (0, 3, click(**said)),
    )
    classified = curate.classify(rows, known(spark), batch=1)
    losers = {row["offset"]: row["same_payload"] for row in curate.duplicates(classified).collect()}
    assert losers == {1: True, 2: False, 3: True}
    [winner] = curate.curated(classified, None, timedelta()).collect()
    later = known(spark, (winner["event_id"], 1, 0, 0), payload_hash=winner["payload_hash"])
    again = curate.duplicates(curate.classify(rows, later, batch=2)).orderBy("offset").collect()
    assert [row["same_payload"] for row in again] == [True, True, False, True]


def test_which_field_says_it_is_part_of_what_is_said(spark: SparkSession, raw_rows: Events) -> None:
    said = {"anonymous_id": "ann", "item_id": "x", "impression_id": "i"}
    others = [{"item_id": None, "list_id": "x"}, {"anonymous_id": None, "user_id": "ann"}, {"impression_id": "j"}]
    rows = raw_rows(*((0, n, click(**said | other)) for n, other in enumerate([{}, *others])))
    losers = curate.duplicates(curate.classify(rows, known(spark), batch=1)).collect()
    assert [row["same_payload"] for row in losers] == [False, False, False]


def test_an_id_that_two_earlier_batches_have_loses_to_the_first_of_them(spark: SparkSession, raw_rows: Events) -> None:
    """As where one looked back less far than now."""
    again = click(message_id="again")
    earlier = known(spark, (again.event_id, 5, 0, 3), (again.event_id, 2, 1, 9))
    [loser] = curate.duplicates(curate.classify(raw_rows((0, 7, again)), earlier, batch=9)).collect()
    assert (loser["winner_batch"], loser["winner_partition"], loser["winner_offset"]) == (2, 1, 9)


def test_a_file_that_is_replayed_long_after_is_known(spark: SparkSession, events: Events, raw_rows: Events) -> None:
    def sent(name: str, days: int, run: str | None = "history") -> ClickEvent:
        source = Source(protocol="native", run=run)
        return click(message_id=name, source=source, occurred_at=to_millis(NOON + timedelta(days=days)))

    before = events(sent("first", 0), sent("second", 1), sent("later", 9), sent("live", 5, None))
    again = [sent("first", 0), sent("second", 1), sent("third", 0)]
    landed = raw_rows(*((0, n, event) for n, event in enumerate([*again, click(message_id="x", occurred_at=0)])))
    known = curate.earlier(before, [], landed)
    assert sorted(row["message_id"] for row in known.collect()) == ["first", "second"]
    classified = curate.classify(landed, known, batch=500)
    assert (places(curate.curated(classified, None, timedelta())), places(curate.duplicates(classified))) == (
        [(0, 2)],
        [(0, 0), (0, 1)],
    )
    live = raw_rows((0, 0, sent("live", 5, None)))
    assert curate.earlier(before, [], live).isEmpty() and curate.earlier(before, [1], live).count() == 4


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"event_id": ""}, "event_id is no uuid"),
    ({"event_id": "1"}, "event_id is no uuid"),
    ({"write_key": ""}, "write_key is missing"),
    ({"occurred_at": 0}, "occurred_at is out of bounds"),
    ({"occurred_at": 2**62}, "occurred_at is out of bounds"),
    ({"received_at": -1}, "received_at is out of bounds"),
]


def test_what_is_no_event_is_kept_with_its_reason(spark: SparkSession, raw_rows: Events) -> None:
    bad = [click(message_id="bad", **wrong) for wrong, _ in WRONG]
    landed = [*bad, bad[0], click()]  # one of them twice: invalid records are no duplicates of each other
    classified = curate.classify(raw_rows(*((0, n, event) for n, event in enumerate(landed))), known(spark), batch=1)
    rows = curate.invalid(classified).orderBy("offset").collect()
    reasons = [reason for _, reason in WRONG]
    assert [(row["offset"], row["reason"]) for row in rows] == list(enumerate([*reasons, reasons[0]]))
    assert all('"message_id":"bad"' in row["event"] for row in rows)
    assert places(curate.curated(classified, None, timedelta())) == [(0, len(landed) - 1)]


def test_late_is_what_happened_a_session_gap_before_the_newest_of_earlier_batches(
    spark: SparkSession, raw_rows: Events
) -> None:
    times = [NOON - timedelta(minutes=31), NOON - timedelta(minutes=30), NOON]
    clicks = [click(message_id=str(n), occurred_at=to_millis(time)) for n, time in enumerate(times)]
    rows = raw_rows(*((0, n, event) for n, event in enumerate(clicks)))
    classified = curate.classify(rows, known(spark), batch=2)
    curated = curate.curated(classified, NOON, timedelta(minutes=30)).orderBy("offset").collect()
    assert [(row["late"], row["lateness_seconds"]) for row in curated] == [(True, 1860), (False, None), (False, None)]
    first = curate.curated(classified, None, timedelta(minutes=30))
    assert not first.filter("late").count() and first.count() == 3


NOBODY = (
    *("null", "NULL", " undefined ", "None", "NaN", "unknown", "Anonymous", "guest", "", '""', "(not set)", "n/a", "0"),
    *("00000000-0000-0000-0000-000000000000", "[object Object]", "ffffffff-ffff-ffff-ffff-ffffffffffff", "0000"),
    *("{{user_id}}", "${USER}", "true", "\u00a0", "-1"),
)
SOMEBODY = (
    "u0",
    "007",
    "nullius",
    "10000000-0000-0000-0000-000000000000",
    "guest-17",
    "Anna",
    "1",
    "undefined@x.example",
)


def test_ids_that_name_nobody_are_told_and_join_nobody(spark: SparkSession, raw_rows: Events) -> None:
    said = [{"anonymous_id": each, "user_id": "ann"} for each in NOBODY]
    said += [{"anonymous_id": "browser", "user_id": each} for each in NOBODY]
    said += [{"anonymous_id": each, "user_id": each} for each in (*NOBODY, *SOMEBODY)]
    landed = raw_rows(*((0, n, click(message_id=str(n), **ids)) for n, ids in enumerate(said)))
    curated = curate.curated(curate.classify(landed, known(spark), 1), None, timedelta()).orderBy("offset").collect()
    n = len(NOBODY)
    told = [(row["visitor_id"], row["anonymous_id"], row["user_id"]) for row in curated]
    assert told[:n] == [("ann", None, "ann")] * n
    assert told[n : 2 * n] == [("browser", "browser", None)] * n
    assert told[2 * n :] == [(None, None, None)] * n + [(each, each, each) for each in SOMEBODY]
    assert [list(row["flags"]) for row in curated] == [["placeholder_id"]] * 3 * n + [[]] * len(SOMEBODY)


def test_a_rerun_replaces_its_batch_and_no_other(spark: SparkSession, events: Events, tables_dropped: None) -> None:
    def stored() -> list[tuple[int, str]]:
        rows = iceberg.read(spark, schemas.EVENTS).orderBy("batch", "message_id").collect()
        return [(row["batch"], row["message_id"]) for row in rows]

    def write(rows: DataFrame, batch: int) -> None:
        publish.overwrite(spark, schemas.EVENTS, rows, batch, lambda written: None)

    for _ in range(2):
        write(events(click(message_id="a"), click(message_id="b")), 1)
        write(events(click(message_id="c"), batch=2), 2)
    assert stored() == [(1, "a"), (1, "b"), (2, "c")]
    write(events(click()).limit(0), 1)
    assert stored() == [(2, "c")]


def test_raw_files_are_read_within_the_batch_and_times_as_numbers(spark: SparkSession, tmp_path: Path) -> None:
    path = tmp_path / "clicks+0+0000000000000000000+0000000000000000009.avro"
    write_container(path, SCHEMA, 10)
    rows = raw.read(spark, [f"file://{path}"], {0: 3, 1: 0}, {0: 6, 1: 5})
    assert places(rows) == [(0, 3), (0, 4), (0, 5)]
    assert {type(row["event"]["occurred_at"]) for row in rows.collect()} == {int}
    assert rows.select("event.page.path").distinct().collect()[0][0] == "/a"


def test_a_batch_without_files_has_no_rows_of_the_same_schema(spark: SparkSession, tmp_path: Path) -> None:
    path = tmp_path / "one.avro"
    write_container(path, SCHEMA, 1)
    nothing = raw.read(spark, [], {0: 0}, {0: 1})
    assert nothing.isEmpty()
    assert nothing.dtypes == raw.read(spark, [f"file://{path}"], {0: 0}, {0: 1}).dtypes


def test_a_file_of_another_schema_version_is_read_as_this_version(spark: SparkSession, tmp_path: Path) -> None:
    older = SCHEMA | {"fields": [field for field in SCHEMA["fields"] if field["name"] not in {"quantity", "flags"}]}
    newer = SCHEMA | {"fields": [*SCHEMA["fields"], {"name": "colour", "type": "string", "default": "red"}]}
    paths = []
    for partition, schema in enumerate([older, newer]):
        path = tmp_path / f"{partition}.avro"
        write_container(path, schema, 2, partition)
        paths.append(f"file://{path}")
    rows = raw.read(spark, paths, {0: 0, 1: 0}, {0: 2, 1: 2})
    assert places(rows) == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert [row[0] for row in rows.select("event.flags").collect()] == [[]] * 4
    assert "colour" not in rows.select("event.*").columns


def write_container(path: Path, schema: dict[str, Any], records: int, partition: int = 0) -> None:
    """Events 0..records-1 as offsets of one partition, as an Avro container of their envelope."""
    base = fastavro.schemaless_reader(io.BytesIO(split(encode(click()))[1]), SCHEMA, SCHEMA)
    rows = [
        {"partition": partition, "offset": offset, "appended_at": NOON, "event": base | {"colour": "blue"}}
        for offset in range(records)
    ]
    with path.open("wb") as out:
        fastavro.writer(out, event_envelope(schema), rows, codec="deflate")


def test_a_field_that_is_added_makes_no_older_duplicate_another(raw_rows: Events) -> None:
    rows = raw_rows((0, 0, FULL), (0, 1, minimal(event_type="custom")))
    before = [7978006247001165676, 2869757653585070010]  # as they are stored since the first version
    assert [row[0] for row in rows.select(curate.payload_hash()).collect()] == before

    added = [
        ("screen", {"type": ["null", "string"], "default": None}, "'1x1'", "CAST(NULL AS STRING)"),
        ("place", {"type": ["null", "string"], "default": None}, "'1x1'", "CAST(NULL AS STRING)"),
        ("depth", {"type": "long", "default": 0}, "7L", "0L"),
        ("labels", {"type": {"type": "map", "values": "string"}, "default": {}}, "map('a','b')", "map()"),
    ]
    newer = {**SCHEMA, "fields": [*SCHEMA["fields"], *({"name": name, **type_} for name, type_, _, _ in added)]}

    def hashes(said: str = "") -> list[int]:
        event = F.col("event")
        for name, _, value, default in added:
            event = event.withField(name, F.expr(value if name == said else default))
        return [row[0] for row in rows.withColumn("event", event).select(curate.payload_hash(newer)).collect()]

    assert hashes() == before, "events without the new fields have the hash that they had"
    told = [hashes(name)[0] for name, *_ in added]
    assert len({before[0], *told}) == 1 + len(added), "each new field counts, and which of them it is"
