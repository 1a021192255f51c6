"""Somebody is forgotten: in what has landed, in all tables, exports and models, and in what those were before."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fastavro
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from msgspec.structs import replace

from infra.settings import Settings
from ingest.event.event import ClickEvent, Page
from processing.tables import feature_schemas, iceberg, model_schemas, publish, schemas, snapshots
from processing.tables.iceberg import Table
from storage import exports
from storage.audit.topic import audit
from storage.batches import ledger
from storage.cli.commands import commands
from storage.formats.records import records
from storage.hdfs import Hdfs
from storage.layout import Layout
from storage.upkeep import erasure_requests
from tests.support.events import view
from tests.support.exports import TABLES as EXPORT
from tests.support.landing import land
from tests.support.spark import Run

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

ANN, HERS, SHARED = "u-ann", "a-ann", "b-shared"
CURATED = ("curate_events", "build_sessions")


@pytest.fixture(scope="module")
def own(cluster_settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    hdfs = cluster_settings.hdfs.model_copy(update={"root": "/erase"})
    processing = cluster_settings.processing.model_copy(update={"freshness_hours": 1e6, "erasure_pause_hours": 0})
    home = tmp_path_factory.mktemp("erase")
    return cluster_settings.model_copy(update={"hdfs": hdfs, "home": home, "processing": processing})


def visits() -> list[ClickEvent]:
    """Ann on a browser of her own, before and after she logs in; Ann and Bob on one; Carl on his."""
    hers = [view(0, n, n / 10, message_id=f"ann-{n}", anonymous_id=HERS) for n in range(3)]
    login = view(0, 3, 0.4, message_id="ann-login", anonymous_id=HERS, user_id=ANN, page=Page(path=f"/of/{ANN}"))
    on_shared = [
        view(0, n, 5 + n / 10, message_id=f"shared-{n}", anonymous_id=SHARED, user_id=user)
        for n, user in enumerate([ANN, "u-bob", ANN, None])
    ]
    carl = [view(2, n, n / 10, message_id=f"carl-{n}", anonymous_id="c-carl", user_id="u-carl") for n in range(3)]
    shown = {"event_type": "impression", "list_id": "home", "position": 0}
    lists = [replace(event, message_id=f"{event.message_id}-shown", **shown) for event in (hers[0], carl[0])]
    return [*hers, login, *on_shared, *carl, *lists, hers[0], replace(hers[1], event_id="no uuid")]


def identified(events: list[ClickEvent]) -> list[ClickEvent]:
    """With event ids of their own where only the message id was changed."""
    from ingest.event.event import event_id

    return [e if e.event_id == "no uuid" else replace(e, event_id=event_id("demo", e.message_id)) for e in events]


@pytest.fixture(scope="module")
def made(own: Settings) -> Hdfs:
    """The batch has landed; an export and a recommender know everybody."""
    fs, root = Hdfs(own), own.hdfs.root
    events = identified(visits())
    land(own, "first", {0: events[:8], 1: events[8:]})
    for version in ("als-before", "als-first"):
        for name, table in EXPORT.items():
            if name == "for_visitors":
                table = pa.concat_tables([table.set_column(0, "visitor_id", pa.array([who])) for who in (HERS, "ann")])
            fs.create(f"{exports.table(root, version, name)}/part-0.parquet", [parquet(table)], create_parents=True)
        fs.create(exports.report(root, version), [json.dumps({"model_version": version, "sessions": 4}).encode()])
    exports.publish_current(fs, root, "als-first")
    names = pa.table({"visitor_id": [HERS, "c-carl"], "visitor": [0, 1]})
    fs.create(f"{root}/models/recommender/batch=1/final/visitors/part-0.parquet", [parquet(names)], create_parents=True)
    return fs


def parquet(table: pa.Table) -> bytes:
    out = io.BytesIO()
    pq.write_table(table, out)
    return out.getvalue()


def rows(spark: SparkSession, table: Table) -> list[str]:
    return sorted(map(str, iceberg.read(spark, table).collect()))


def facts(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
    return found


def test_nobody_asks_and_nothing_is_touched(
    own: Settings, made: Hdfs, run: Run, spark: SparkSession, capsys: pytest.CaptureFixture[str]
) -> None:
    assert [run(job, "first") for job in (*CURATED, "build_features", "build_examples")] == [0] * 4
    lists = spark.createDataFrame(
        [(who, 0, "/1", 1.0, "als") for who in (HERS, "c-carl")],
        "visitor_id STRING, rank INT, item_id STRING, score DOUBLE, source STRING",
    )
    publish.overwrite(spark, model_schemas.RECOMMENDATIONS, lists, 1, lambda _: None)
    snapshots.tag(spark, schemas.EVENTS, "trained-1", snapshots.newest(spark, schemas.EVENTS))
    assert run("erase_people", "first") == 0
    assert facts(capsys)["requests"] == 0
    assert {ANN, HERS} <= set(said(spark, made, own.hdfs.root))


def test_a_request_makes_their_events_nobodys_and_takes_what_was_made_of_them(
    own: Settings, made: Hdfs, run: Run, spark: SparkSession, capsys: pytest.CaptureFixture[str]
) -> None:
    others = {
        table: [row for row in rows(spark, table) if "carl" in row]
        for table in (
            schemas.EVENTS,
            schemas.SESSIONS,
            feature_schemas.VISITOR_FEATURES,
            feature_schemas.TRAINING_EXAMPLES,
        )
    }
    erasure_requests.ask(made, own.hdfs.root, [ANN], [], datetime.now(UTC))
    assert run("erase_people", "first") == 0
    done = facts(capsys)
    assert (done["requests"], done["done"]) == (1, 0)
    assert (done["landed"], done["events"], done["invalid"]) == (9, 7, 1)  # a duplicate has landed, too
    for table, before in others.items():
        assert [row for row in rows(spark, table) if "carl" in row] == before != []
    events = iceberg.read(spark, schemas.EVENTS)
    assert events.filter("array_contains(flags, 'erased')").filter("visitor_id IS NULL").count() == 7
    assert {row["visitor_id"] for row in iceberg.read(spark, schemas.SESSIONS).collect()} == {SHARED, "c-carl"}
    [shared] = iceberg.read(spark, schemas.SESSIONS).filter(f"visitor_id = '{SHARED}'").collect()
    assert (shared["events"], shared["user_id"], shared["person_id"]) == (2, "u-bob", "u-bob")
    assert {row["user_id"] for row in iceberg.read(spark, schemas.IDENTITIES).collect()} == {"u-bob", "u-carl"}
    for table in (
        feature_schemas.INTERACTIONS,
        feature_schemas.VISITOR_FEATURES,
        feature_schemas.TRAINING_EXAMPLES,
        model_schemas.RECOMMENDATIONS,
    ):
        assert {row["visitor_id"] for row in iceberg.read(spark, table).collect()} == {"c-carl"}
    current = exports.read_report(made, own.hdfs.root)
    assert current == {"version": "als-first-2", "model_version": "als-first", "sessions": 4}


def test_a_rerun_of_the_batch_changes_no_row(
    own: Settings, made: Hdfs, run: Run, spark: SparkSession, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = (schemas.EVENTS, schemas.DUPLICATES, schemas.INVALID, schemas.SESSIONS, schemas.IDENTITIES)
    before = [rows(spark, table) for table in kept]
    assert [run(job, "first") for job in CURATED] == [0, 0]
    assert [rows(spark, table) for table in kept] == before
    layout = Layout(own.hdfs.root, own.kafka.topic)
    assert not audit(made, layout, deep=True).findings
    assert ledger.newest_curated(made, layout).name == "first"


def test_a_request_is_done_when_nothing_is_found_any_more_and_nothing_tells_who_asked(
    own: Settings, made: Hdfs, run: Run, spark: SparkSession, capsys: pytest.CaptureFixture[str]
) -> None:
    late = identified([view(0, 1, 3, message_id="ann-late", anonymous_id=HERS)])  # was in a spool
    land(own, "second", {0: late})
    assert [run(job, "second") for job in CURATED] == [0, 0]
    for done in (0, 1):
        assert run("erase_people", "second") == 0
        assert (found := facts(capsys))["done"] == done, found
    assert erasure_requests.pending(made, own.hdfs.root) == []
    left = said(spark, made, own.hdfs.root)
    assert [left.get(who) for who in (ANN, HERS)] == [None, None]
    assert {"u-bob", "c-carl", SHARED} <= set(left)
    assert not list(spark.sql(f"SELECT name FROM {schemas.EVENTS.full_name}.refs WHERE type = 'TAG'").collect())


def test_requests_are_listed_without_whom_they_are_about(own: Settings, made: Hdfs, run: Run) -> None:
    group = next(command for command in commands if command.name == "erasures")
    asked = CliRunner().invoke(group, ["request", "--anonymous-id", "c-carl", "--json"])
    assert (asked.exit_code, set(json.loads(asked.output))) == (0, {"id", "requested_at"})
    listed = CliRunner().invoke(group, ["list", "--json"])
    first, second = json.loads(listed.output)
    assert first["done_at"] and second["id"] == json.loads(asked.output)["id"] and not second["done_at"]
    assert "c-carl" not in listed.output
    assert isinstance(CliRunner().invoke(group, ["request"]).exception, erasure_requests.NobodyNamed)


def said(spark: SparkSession, fs: Hdfs, root: str) -> dict[str, list[str]]:
    """Id -> the files in which it stands, of the platform's folder on HDFS and of the tables."""
    found: dict[str, list[str]] = {}
    for path, text in (*_on_hdfs(fs, root), *_of_tables(spark)):
        for each in (ANN, HERS, SHARED, "u-bob", "c-carl"):
            if each in text:
                found.setdefault(each, []).append(path)
    return found


def _on_hdfs(fs: Hdfs, path: str) -> Iterator[tuple[str, str]]:
    for entry in fs.list(path):
        if entry.is_dir:
            yield from _on_hdfs(fs, entry.path)
        elif "/raw/" in entry.path:
            yield entry.path, str(list(records(fs, entry.path)))
        elif entry.name.endswith(".parquet"):
            yield entry.path, str(pq.read_table(io.BytesIO(fs.read(entry.path))).to_pylist())
        else:
            yield entry.path, fs.read(entry.path).decode(errors="replace")


def _of_tables(spark: SparkSession) -> Iterator[tuple[str, str]]:
    for table in schemas.ALL:
        if not spark.catalog.tableExists(table.full_name):
            continue
        described = spark.sql(f"DESCRIBE EXTENDED {table.full_name}").collect()
        [place] = [row["data_type"] for row in described if row["col_name"] == "Location"]
        for file in Path(place.removeprefix("file:")).rglob("*"):
            if file.suffix == ".parquet":
                yield str(file), str(pq.read_table(file).to_pylist())
            elif file.suffix == ".avro":
                with file.open("rb") as manifest:
                    yield str(file), str(list(fastavro.reader(manifest)))
            elif file.is_file():
                yield str(file), file.read_text(errors="replace")
