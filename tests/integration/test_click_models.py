"""Models of what an impression leads to: what was planted is found, noise is refused, places don't decide the order."""

from __future__ import annotations

import importlib
import json
import math
import random
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

from infra.settings import Settings
from ingest.events import to_millis
from processing import feature_values, publish, reranking
from processing.feature_definitions import ITEM, VISITOR
from processing.registry import Registry
from processing.tables import TRAINING_EXAMPLES
from processing.training import outcomes, store
from processing.training.classifiers import Classifier
from processing.training.outcomes import CATEGORICAL, NUMERIC, PLACE
from processing.training.recipe import Recipe
from storage import batches, ledger
from storage.batches import Cut
from storage.hdfs import Hdfs
from storage.layout import Layout
from tests.integration.conftest import click, land

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

START = datetime(2026, 1, 5, tzinfo=UTC)
LOGISTIC = Recipe("logistic", {"regParam": 0.0001})
Run = Callable[[str], dict[str, Any]]


def planted(spark: SparkSession, count: int, seed: int = 1, taste: float = 1.5, since: int = 0) -> DataFrame:
    """Impressions at four places of which the first ones are clicked more; and more, where the visitor has an affinity
    to the item; half of the clicks lead into the cart."""
    rng = random.Random(seed)
    rows = []
    for number in range(count):
        affinity, place = rng.choice([0.0, 1.0, 2.0]), rng.choice([0.4, 0.2, 0.1, 0.05])
        odds = math.log(place / (1 - place)) + taste * (affinity - 1)
        clicked = rng.random() < 1 / (1 + math.exp(-odds))
        known: dict[str, Any] = dict.fromkeys(NUMERIC, 0.0)
        known |= {"pair_affinity": affinity, "visitor_views_30d": rng.choice([0.0, 3.0])}
        known |= {PLACE: place, "device_type": rng.choice(["desktop", "mobile"])}
        rows.append(
            {
                "example_id": f"{since}-{seed}-{number}",
                "visitor_id": f"v{rng.randrange(count // 10)}",
                "item_id": f"i{number % 50}",
                "occurred_at": START + timedelta(minutes=since + number),
                "clicked": clicked,
                "converted": clicked and rng.random() < 0.5,
                "as_of": START + timedelta(minutes=since + count),
                **known,
            }
        )
    types = {name: type_ for name, type_ in TRAINING_EXAMPLES.columns.items() if name != "batch"}
    there = {name: name if name in rows[0] else "NULL" for name in types}
    frame = spark.createDataFrame(pa.Table.from_pylist(rows))
    return frame.selectExpr(*[f"CAST({there[name]} AS {type_}) AS {name}" for name, type_ in types.items()])


@pytest.fixture(scope="module")
def own(cluster_settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Own folder on HDFS and own home; one algorithm, for the sake of time."""
    hdfs = cluster_settings.hdfs.model_copy(update={"root": "/click-models"})
    processing = cluster_settings.processing.model_copy(update={"click_algorithms": ("logistic",)})
    home = tmp_path_factory.mktemp("click_models")
    return cluster_settings.model_copy(update={"hdfs": hdfs, "home": home, "processing": processing})


@pytest.fixture
def run(
    own: Settings, tables_dropped: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Run]:
    """Runs the job for a batch in this process; gives its facts."""
    for name, value in own.to_env().items():
        monkeypatch.setenv(name, value)

    def one(batch: str) -> dict[str, Any]:
        capsys.readouterr()
        job = importlib.import_module("processing.jobs.train_click_models")
        assert job.main(["--batch", batch]) == 0, capsys.readouterr().err
        facts: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
        return facts

    yield one


def batch(settings: Settings, spark: SparkSession, name: str, examples: DataFrame) -> Cut:
    """A batch that counts as curated, of which there are these training examples, and nothing else."""
    cut = land(settings, name, {0: [click(message_id=name)]})
    ledger.record_publish(Hdfs(settings), Layout(settings.hdfs.root, settings.kafka.topic), cut, {0: (1, 0, 0)})
    publish.overwrite(spark, TRAINING_EXAMPLES, examples, cut.number, lambda _: None)
    return cut


def decided(settings: Settings, name: str, outcome: str) -> store.InForce:
    fs, root = Hdfs(settings), settings.hdfs.root
    return store.in_force(fs, root, batches.get(fs, Layout(root, settings.kafka.topic), name), outcome, "job")


def test_what_was_planted_is_learnt_registered_and_the_same_again(own: Settings, spark: SparkSession, run: Run) -> None:
    batch(own, spark, "few", planted(spark, 60))
    facts = run("few")
    assert (facts["examples"], facts["clicked_model"], facts["converted_model"]) == (
        60,
        "no-clicked-few",
        "no-converted-few",
    )
    assert Registry(own, "clicked").versions() == []

    batch(own, spark, "planted", planted(spark, 4_000, since=60))
    facts = run("planted")
    assert (facts["examples"], facts["clicked_model"]) == (4_060, "clicked-logistic-planted")
    chosen = decided(own, "planted", "clicked")
    assert chosen.promoted and chosen.recipe is not None and chosen.recipe.algorithm == "logistic"
    registry = Registry(own, "clicked")
    champion = registry.champion()
    assert champion is not None and champion.name == "clicked-logistic-planted"
    metrics = registry.read_run(champion.run_id)["metrics"]
    assert metrics["challenger/auc"] > metrics["baseline/auc"] + 0.05
    assert 0 < metrics["challenger/log_loss_saved_low"] < metrics["challenger/log_loss_saved"]
    assert metrics["challenger/ece"] < 0.05
    assert {"challenger/visitors_new/auc", "challenger/visitors_returning/auc", "challenger/device_mobile/auc"} <= {
        *metrics
    }
    assert champion.facts["snapshots"].keys() == {"training_examples"}

    again = run("planted")
    assert {**again, "seconds": 0} == {**facts, "seconds": 0}
    assert decided(own, "planted", "clicked") == chosen
    assert [version.name for version in registry.versions()] == ["clicked-logistic-planted"]

    # The same recipe, on a batch more: in force again, and of this batch.
    batch(own, spark, "more", planted(spark, 1_000, seed=2, since=4_060))
    assert run("more")["clicked_model"] == "clicked-logistic-more"
    [_, better, *_] = decided(own, "more", "clicked").checks
    assert "the recipe of clicked-logistic-planted" in better["detail"]


def test_what_tells_nothing_beyond_places_is_refused_and_the_champion_stays(
    own: Settings, spark: SparkSession, run: Run
) -> None:
    """All history is of other tastes by now: nothing but the place tells of clicks."""
    batch(own, spark, "noise", planted(spark, 6_000, seed=3, taste=0.0, since=5_060))
    assert run("noise")["clicked_model"] == "clicked-logistic-more-on-noise"
    refused = decided(own, "noise", "clicked")
    assert not refused.promoted and refused.recipe is not None and refused.recipe.algorithm == "logistic"
    informed = refused.checks[0]
    assert informed["name"] == "informed" and not informed["passed"]
    champion = Registry(own, "clicked").champion()
    assert champion is not None and champion.name == "clicked-logistic-more"


def test_the_algorithm_that_loses_least_is_chosen(spark: SparkSession) -> None:
    rows = outcomes.examples(planted(spark, 3_000)).persist()
    assert outcomes.choose(rows, "clicked", ("forest", "logistic")).algorithm == "logistic"  # as it was planted
    assert outcomes.choose(rows.limit(40), "clicked", ("forest", "logistic")).algorithm == "forest"  # the first one


def test_a_model_is_the_same_after_it_was_kept(spark: SparkSession, tmp_path: Any) -> None:
    rows = outcomes.examples(planted(spark, 1_000)).persist()
    model = outcomes.fit(rows, "clicked", LOGISTIC)
    model.save(f"file://{tmp_path}/model")
    kept = Classifier.load(f"file://{tmp_path}/model")
    first, second = (one.score(rows.limit(50)).toPandas()["probability"].tolist() for one in (model, kept))
    assert first == second


def test_candidates_go_by_their_chance_to_be_clicked_at_one_and_the_same_place(spark: SparkSession) -> None:
    rows = outcomes.examples(planted(spark, 4_000)).persist()
    model = outcomes.fit(rows, "clicked", LOGISTIC)
    at = to_millis(START + timedelta(days=1))
    events = spark.createDataFrame(
        [
            ("v1", "liked", at - 60_000, "click", 0.05),
            ("v1", "shown", at - 60_000, "impression", 0.9),
            ("v2", "liked", at - 60_000, "search", 0.05),
        ],
        "visitor_id STRING, item_id STRING, time LONG, event_type STRING, expected_clicks DOUBLE",
    )
    items = feature_values.snapshot(events, ["item_id"], ITEM, at)
    visitors = feature_values.snapshot(events, ["visitor_id"], VISITOR, at).selectExpr(
        "*", "'mobile' AS device_type", "'liked' AS last_item_id"
    )
    together = spark.createDataFrame(
        [("liked", "shown", 2.0, 3.0)],
        "last_item_id STRING, item_id STRING, covisit_views_7d DOUBLE, covisit_views_30d DOUBLE",
    )
    candidates = spark.createDataFrame(
        [("v1", 0, "unknown"), ("v1", 1, "shown"), ("v1", 2, "liked"), ("v2", 0, "shown")],
        "visitor_id STRING, rank INT, item_id STRING",
    )
    described = reranking.described(candidates, items, visitors, together, events, at).persist()
    assert {*described.columns} >= {*NUMERIC, *CATEGORICAL}
    assert {row[PLACE] for row in described.collect()} == {0.05}
    assert {row["item_id"]: row["covisit_views_30d"] for row in described.collect()} == {
        "unknown": 0.0,
        "shown": 3.0,
        "liked": 0.0,
    }
    ranked = reranking.reorder(described, model, 2).orderBy("visitor_id", "rank").collect()
    assert [(row["visitor_id"], row["rank"], row["item_id"]) for row in ranked] == [
        ("v1", 0, "liked"),
        ("v1", 1, "unknown"),
        ("v2", 0, "shown"),
    ]
    assert all(0 < row["score"] < 1 for row in ranked)
