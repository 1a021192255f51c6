"""The jobs, one after the other, on a real HDFS: what they leave, what a rerun changes, how they refuse."""

from __future__ import annotations

import importlib
import io
import json
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from msgspec.structs import replace

from infra.errors import GATE_CLOSED
from infra.settings import Settings
from ingest.event.event import ClickEvent, Device
from processing import commands
from processing.algorithms import recipes
from processing.algorithms.recipes import Recipe
from processing.runtime.registry import Registry
from processing.tables import feature_schemas, iceberg, model_schemas, schemas, snapshots
from processing.training import evaluation
from storage import exports
from storage.batches import cuts, ledger
from storage.hdfs import Hdfs
from storage.layout import Layout
from tests.support.events import view
from tests.support.landing import land
from tests.support.spark import Run

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

JOBS = (
    "curate_events",
    "build_sessions",
    "build_features",
    "build_examples",
    "train_recommender",
    "evaluate_recommender",
    "train_ranker",
    "train_click_models",
    "recommend_items",
    "export_recommendations",
)
RERUN = [job for job in JOBS if job != "train_click_models"]  # of which test_click_models holds the same


@pytest.fixture(scope="module")
def own(cluster_settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Own folder on HDFS and own home."""
    hdfs = cluster_settings.hdfs.model_copy(update={"root": "/jobs"})
    processing = cluster_settings.processing.model_copy(update={"freshness_hours": 1e6})  # `land` appends in 2015
    home = tmp_path_factory.mktemp("jobs")
    return cluster_settings.model_copy(update={"hdfs": hdfs, "home": home, "processing": processing})


def first_batch() -> list[ClickEvent]:
    """Six people of two tastes on two days, one bot; one event twice, one that is none."""
    day_one = [view(v, v % 2 + 2 * ((v + i) % 5), i / 10) for v in range(6) for i in range(3)]
    day_two = [view(v, v % 2 + 2 * ((v + 3) % 5), 24 + v / 10) for v in range(6)]
    bot = view(9, 0, 1, device=Device(is_bot=True))
    place = {"list_id": "home", "position": 0}
    shown = view(0, 0, 0.05, event_type="impression", message_id="shown", **place)
    clicked = view(0, 0, 0.06, event_type="click", message_id="clicked", user_id="u0", **place)
    return [*day_one, *day_two, bot, shown, clicked, day_one[0], replace(bot, event_id="no uuid")]


def rows(spark: SparkSession, table: iceberg.Table) -> list[str]:
    """All rows of a table as sorted text: to compare before and after."""
    return sorted(map(str, iceberg.read(spark, table).collect()))


def folder(settings: Settings, version: str, name: str) -> list[dict[str, Any]]:
    fs, path = Hdfs(settings), exports.table(settings.hdfs.root, version, name)
    [file] = [entry.path for entry in fs.list(path) if entry.name.endswith(".parquet")]
    found: list[dict[str, Any]] = pq.read_table(io.BytesIO(fs.read(file))).to_pylist()
    return found


def test_from_landed_files_to_an_export(
    own: Settings, spark: SparkSession, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    landed = first_batch()
    cut = land(own, "first", {0: landed[:20], 1: landed[20:], 2: []})
    assert [run(job, "first") for job in JOBS] == [0] * len(JOBS)
    facts = {fact["job"]: fact for line in capsys.readouterr().out.splitlines() if (fact := json.loads(line))}
    assert tuple(facts) == JOBS
    curated = {name: facts["curate_events"][name] for name in ("landed", "curated", "duplicates", "invalid")}
    assert curated == {"landed": 29, "curated": 27, "duplicates": 1, "invalid": 1}

    fs, root = Hdfs(own), own.hdfs.root
    gate = ledger.load(fs, Layout(root, own.kafka.topic), cut)
    assert gate.published_balanced and gate.total("curated") == 27

    report = exports.read_report(fs, root)
    assert report is not None
    assert (report["batch"], report["version"], report["model_version"]) == ("first", "als-first", "als-first")
    assert (report["sessions"], report["visitors"], report["items"]) == (13, 7, 10)
    model = report["model"]
    assert (model["algorithm"], model["n_users"], model["promoted"]) == ("als", 5, True)
    assert 0 < model["recall_at_10"] <= 1 and 0 < model["baseline_ndcg_at_10"] <= 1
    assert model["recall_at_10_interval"][0] <= model["recall_at_10"] <= model["recall_at_10_interval"][1]

    recommended = folder(own, "als-first", "for_visitors")
    assert len(recommended) == report["recommendations"] > 0
    assert {row["visitor_id"] for row in recommended} == {f"v{n}" for n in range(6)}
    assert {row["source"] for row in recommended} <= {"als", "popular"}
    seen = {(event.anonymous_id, event.item_id) for event in landed}
    assert not seen & {(row["visitor_id"], row["item_id"]) for row in recommended}
    items = folder(own, "als-first", "items")
    assert {"item_id": "/0", "title": "Item 0", "path": "/0"}.items() <= items[0].items() and len(items) == 10
    assert [row["rank"] for row in folder(own, "als-first", "popular")] == list(range(10))
    similar = folder(own, "als-first", "similar")
    assert {(row["item_id"], row["rank"]): row["similar_item_id"] for row in similar}["/0", 0] == "/2"

    champion = Registry(own).champion()
    assert champion is not None and (champion.name, champion.batch) == ("als-first", 1)
    assert champion.source == f"{own.hdfs.address}/jobs/models/recommender/batch=1/final"
    assert "nothing to beat" in champion.decision["checks"][0]["detail"]
    logged = Registry(own).read_run(champion.run_id)
    assert logged["metrics"]["challenger/ndcg"] == model["ndcg_at_10"]
    assert logged["parameters"]["algorithm"] == "als" and logged["tags"]["code"]


def test_what_was_learnt_from_is_tagged(own: Settings, spark: SparkSession) -> None:
    champion = Registry(own).champion()
    assert champion is not None
    for table in (schemas.EVENTS, feature_schemas.INTERACTIONS):
        tagged = spark.sql(f"SELECT snapshot_id FROM {table.full_name}.refs WHERE name = 'trained-1'").collect()
        assert [row["snapshot_id"] for row in tagged] == [champion.facts["snapshots"][table.name]]


def test_a_model_is_made_again_from_the_snapshots_and_the_recipe_that_are_registered(
    own: Settings, spark: SparkSession
) -> None:
    champion = Registry(own).champion()
    assert champion is not None
    ids, recipe = champion.facts["snapshots"], Recipe.from_dict(champion.facts["recipe"])
    events = snapshots.read(spark, schemas.EVENTS, ids["events"], 1)
    known, as_of = evaluation.known(events, own.processing.feature_days)
    interactions = snapshots.read(spark, feature_schemas.INTERACTIONS, ids["interactions"], 1)
    assert as_of is not None
    again = recipes.fit(evaluation.training_set(known, as_of, timedelta(minutes=30), interactions), recipe)
    saved, visitors = recipes.load(spark, recipe, champion.source), interactions.select("visitor_id").distinct()
    assert again is not None
    lists = [sorted(map(str, model.top(visitors, interactions, 5).collect())) for model in (again, saved)]
    assert lists[0] == lists[1] != []


def test_a_second_batch_knows_the_first_and_a_rerun_of_either_changes_nothing(
    own: Settings, spark: SparkSession, run: Run
) -> None:
    again = [first_batch()[0], view(0, 7, 48), view(7, 1, 48)]
    land(own, "second", {0: again, 1: [], 2: []})
    assert [run(job, "second") for job in JOBS] == [0] * len(JOBS)
    [loser] = iceberg.read_batch(spark, schemas.DUPLICATES, 2).collect()
    assert (loser["winner_batch"], loser["winner_partition"], loser["winner_offset"]) == (1, 0, 0)
    written = [table for table in schemas.ALL if spark.catalog.tableExists(table.full_name)]
    assert len(written) == 16
    before = {table.name: rows(spark, table) for table in written}
    assert all(before[name] for name in before)
    fs, root = Hdfs(own), own.hdfs.root
    assert exports.read_current(fs, root) == "als-second"
    old = folder(own, "als-first", "for_visitors")
    assert [run(job, "first") for job in RERUN] == [0] * len(RERUN)
    assert {table.name: rows(spark, table) for table in written} == before
    # The older batch's rerun has a version of its own, equal to the first one, and does not come into force.
    assert folder(own, "als-first-2", "for_visitors") == folder(own, "als-first", "for_visitors") == old
    assert exports.read_current(fs, root) == "als-second"
    registered = [(version.name, *version.aliases) for version in Registry(own).versions()]
    assert registered == [("als-second", "champion"), ("als-first",)]


def test_a_batch_without_events_clears_nothing_of_others_and_a_refused_challenger_leaves_the_champion_in_force(
    own: Settings, spark: SparkSession, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    land(own, "empty", {0: [], 1: [], 2: []})
    monkeypatch.setenv("CLICKSTREAM_PROCESSING__SEARCH_ALGORITHMS", '["popular"]')
    assert [run(job, "empty") for job in JOBS] == [0] * len(JOBS)
    report = exports.read_report(Hdfs(own), own.hdfs.root)
    assert report is not None
    assert (report["model_version"], report["model"]["algorithm"]) == ("als-second-on-empty", "als")
    assert report["model"]["promoted"] is False
    champion, challenger = Registry(own).champion(), Registry(own).get("challenger")
    assert champion is not None and (champion.name, challenger.name) == ("als-second", "popular-empty")
    [better, *_] = challenger.decision["checks"]
    assert not better["passed"] and "over als-second" in better["detail"]
    rated = iceberg.read_batch(spark, model_schemas.EVALUATIONS, 3).filter("segment = 'all'").collect()
    assert {row["role"]: row["algorithm"] for row in rated} == {
        "challenger": "popular",
        "champion": "als",
        "baseline": "popular",
        "final": "als",
    }
    assert {row["source"] for row in iceberg.read_batch(spark, model_schemas.RECOMMENDATIONS, 3).collect()} >= {"als"}
    assert (report["batch"], report["sessions"], report["visitors"], report["items"]) == ("empty", 0, 0, 0)
    assert report["recommendations"] > 0  # of all who are known by now
    assert iceberg.read_batch(spark, schemas.EVENTS, 1).count() == 27


def test_the_commands_show_models_and_take_lists_back_and_forth(
    own: Settings, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    def models(*arguments: str) -> Any:
        result = CliRunner().invoke(commands.models, [*arguments, "--json"])
        assert not result.exception, result.output
        return json.loads(result.output)

    fs, root = Hdfs(own), own.hdfs.root
    listed = [(model["model"], model["promoted"]) for model in models("list")]
    assert listed == [("popular-empty", False), ("als-second", True), ("als-first", True)]
    shown = models("show", "challenger")
    assert shown["recipe"] == {"algorithm": "popular", "parameters": {"window_days": 0.0}}
    assert [check["name"] for check in shown["gate"]] == ["better", "rollback", "smoke", "drift"]
    assert shown["metrics"]["challenger/users"] == 5 and shown["snapshots"].keys() == {"events", "interactions"}
    decided = models("decision", "--batch", "second")
    assert (decided["in_force"], decided["promoted"]) == ("als-second", True)
    assert [check["name"] for check in decided["checks"]] == ["better", "rollback", "smoke", "drift"]
    refused = models("decision")  # no failure: the run of a challenger that was refused ends well
    assert (refused["batch"], refused["in_force"], refused["promoted"]) == ("empty", "als-second-on-empty", False)
    back = models("rollback")
    assert (back["model"], back["aliases"], back["lists_shown"]) == ("als-first", ["champion"], True)
    assert exports.read_current(fs, root) == "als-first"
    capsys.readouterr()
    assert run("export_recommendations", "second") == 0  # cleared, or a training that was under way
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["in_force"] is False
    assert exports.read_current(fs, root) == "als-first"
    assert models("promote", "als-second")["model"] == exports.read_current(fs, root) == "als-second"
    assert ledger.newest_curated(fs, Layout(root, own.kafka.topic)).name == "empty"


def test_upkeep_changes_no_row_and_spares_what_was_learnt_from(
    own: Settings, spark: SparkSession, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    made = [table for table in schemas.ALL if spark.catalog.tableExists(table.full_name)]
    before = {table.name: rows(spark, table) for table in made}
    assert run("maintain_tables", "empty") == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["tables"] == len(made) == len(schemas.ALL)
    assert {table.name: rows(spark, table) for table in made} == before


def test_a_batch_that_fails_a_check_is_not_published_and_holds_up_the_next(
    own: Settings, spark: SparkSession, run: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    land(own, "stale", {0: [view(1, 1, 70)], 1: [], 2: []})
    number = land(own, "after-stale", {0: [view(1, 2, 70)], 1: [], 2: []}).number
    monkeypatch.setenv("CLICKSTREAM_PROCESSING__FRESHNESS_HOURS", "1")
    assert run("curate_events", "stale") == GATE_CLOSED
    report = f"/jobs/quality/events/batch={number - 1}.json"
    err = capsys.readouterr().err
    assert "batch stale, not published: freshness" in err and report in err
    assert b"newest record was appended" in Hdfs(own).read(report)
    assert not iceberg.read_batch(spark, schemas.EVENTS, number - 1).count()
    assert run("curate_events", "after-stale") == 1
    assert "stale, which is not curated yet" in capsys.readouterr().err
    monkeypatch.setenv("CLICKSTREAM_PROCESSING__FRESHNESS_HOURS", "1e6")
    assert [run("curate_events", name) for name in ("stale", "after-stale")] == [0, 0]
    assert not Hdfs(own).exists(report)


def test_a_batch_that_has_not_landed_is_not_curated_short(
    own: Settings, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    cut = land(own, "half-landed", {0: [view(1, 3, 97)], 1: [view(1, 4, 97)], 2: []})
    [file, _] = cuts.files(Hdfs(own), Layout(own.hdfs.root, own.kafka.topic), cut)
    aside = f"{own.hdfs.root}/aside"
    Hdfs(own).rename(file.path, aside)
    assert run("curate_events", "half-landed") == GATE_CLOSED
    assert "half-landed has not landed: offsets are missing, 1 of partition 0" in capsys.readouterr().err
    Hdfs(own).rename(aside, file.path)
    assert run("curate_events", "half-landed") == 0


def test_a_lost_record_fails_the_gate(
    own: Settings, run: Run, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    cut = land(own, "lossy", {0: [view(1, 1, 72), view(1, 2, 72)], 1: [], 2: []})
    fs, layout = Hdfs(own), Layout(own.hdfs.root, own.kafka.topic)
    [file] = cuts.files(fs, layout, cut)
    # Its header says two records; another with one takes its place.
    shorter = shortened(fs.read(file.path))
    fs.write_atomically(file.path, shorter, overwrite=True)
    assert run("curate_events", "lossy") == GATE_CLOSED
    assert "partition 0: landed 2 is not curated 1" in capsys.readouterr().err
    assert not ledger.load(fs, layout, cut).published_balanced


def shortened(container: bytes) -> bytes:
    """The same container with the same header, without its last record."""
    import fastavro

    from storage.formats.avro.blocks import read_metadata

    reader = fastavro.reader(io.BytesIO(container))
    out = io.BytesIO()
    metadata = {name: text.decode() for name, text in read_metadata(container).to_metadata().items()}
    assert reader.writer_schema is not None
    fastavro.writer(out, reader.writer_schema, list(reader)[:-1], metadata=metadata)
    return out.getvalue()


@pytest.mark.parametrize("job", JOBS)
def test_an_unknown_batch_is_one_line_and_exit_2(run: Run, capsys: pytest.CaptureFixture[str], job: str) -> None:
    assert run(job, "nowhere") == 2
    out, err = capsys.readouterr()
    assert not out and err.startswith(f"{job}: ") and "'nowhere'" in err and err.count("\n") == 1


def test_a_job_before_its_predecessor_says_which_one_is_missing(
    own: Settings, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    land(own, "too-early", {0: [view(1, 1, 96)], 1: [], 2: []})
    for job in JOBS[1:]:
        assert run(job, "too-early") == 2
        assert "too-early is not curated: run curate_events first" in capsys.readouterr().err
    assert not Hdfs(own).exists(f"{Layout(own.hdfs.root, own.kafka.topic).ledger}/sessions/too-early.json")


def test_help_is_a_manual(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        importlib.import_module("processing.jobs.curate_events").main(["--help"])
    assert "dedup_days" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="2"):
        importlib.import_module("processing.jobs.curate_events").main([])
