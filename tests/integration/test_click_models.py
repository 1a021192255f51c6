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
from processing.algorithms.recipes import Recipe
from processing.runtime.registry import Registry
from processing.tables import publish
from processing.tables.feature_schemas import TRAINING_EXAMPLES
from processing.training import model_files, outcomes
from processing.training.classifiers import Classifier
from processing.training.outcomes import NUMERIC, PLACE
from storage.batches import cuts, ledger
from storage.batches.cuts import Cut
from storage.hdfs import Hdfs
from storage.layout import Layout
from tests.support.events import click
from tests.support.landing import land

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


def decided(settings: Settings, name: str, outcome: str) -> model_files.InForce:
    fs, root = Hdfs(settings), settings.hdfs.root
    return model_files.in_force(fs, root, cuts.get(fs, Layout(root, settings.kafka.topic), name), outcome, "job")


def test_what_was_planted_is_learnt_registered_and_the_same_again(own: Settings, spark: SparkSession, run: Run) -> None:
    batch(own, spark, "few", planted(spark, 60))
    facts = run("few")
    assert (facts["examples"], facts["clicked_model"], facts["converted_model"]) == (
        60,
        "no-clicked-few",
        "no-converted-few",
    )
    assert Registry(own, "clicked").versions() == []

    batch(own, spark, "planted", planted(spark, 1_500, since=60))
    facts = run("planted")
    assert (facts["examples"], facts["clicked_model"]) == (1_560, "clicked-logistic-planted")
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

    # The same recipe, on a batch more: in force again, and of this batch.
    batch(own, spark, "more", planted(spark, 500, seed=2, since=1_560))
    assert run("more")["clicked_model"] == "clicked-logistic-more"
    latest = decided(own, "more", "clicked")
    [_, better, *_] = latest.checks
    assert "the recipe of clicked-logistic-planted" in better["detail"]

    # A rerun of the older batch changes neither its own model nor the newer one's.
    assert {**run("planted"), "seconds": 0} == {**facts, "seconds": 0}
    assert (decided(own, "planted", "clicked"), decided(own, "more", "clicked")) == (chosen, latest)
    assert sorted(version.name for version in registry.versions()) == [latest.version, chosen.version]
    champion = registry.champion()
    assert champion is not None and champion.name == latest.version == "clicked-logistic-more"


@pytest.mark.models
def test_what_tells_nothing_beyond_places_is_refused_and_the_champion_stays(
    own: Settings, spark: SparkSession, run: Run
) -> None:
    """All history is of other tastes by now: nothing but the place tells of clicks."""
    before = Registry(own, "clicked").champion()
    if before is None:  # this test alone
        batch(own, spark, "true", planted(spark, 4_000))
        run("true")
        before = Registry(own, "clicked").champion()
    assert before is not None
    batch(own, spark, "noise", planted(spark, 6_000, seed=3, taste=0.0, since=5_060))
    assert run("noise")["clicked_model"] == f"{before.name}-on-noise"
    refused = decided(own, "noise", "clicked")
    assert not refused.promoted and refused.recipe is not None and refused.recipe.algorithm == "logistic"
    informed = refused.checks[0]
    assert informed["name"] == "informed" and not informed["passed"]
    champion = Registry(own, "clicked").champion()
    assert champion is not None and champion.name == before.name


@pytest.mark.models
def test_the_algorithm_that_loses_least_is_chosen(spark: SparkSession) -> None:
    rows = outcomes.examples(planted(spark, 3_000)).persist()
    assert outcomes.choose(rows, "clicked", ("forest", "logistic")).algorithm == "logistic"  # as it was planted
    assert outcomes.choose(rows.limit(40), "clicked", ("forest", "logistic")).algorithm == "forest"  # the first one


def test_a_model_is_the_same_after_it_was_kept(spark: SparkSession, tmp_path: Any) -> None:
    rows = outcomes.examples(planted(spark, 300)).persist()
    model = outcomes.fit(rows, "clicked", LOGISTIC)
    model.save(f"file://{tmp_path}/model")
    kept = Classifier.load(f"file://{tmp_path}/model")
    first, second = (one.score(rows.limit(50)).toPandas()["probability"].tolist() for one in (model, kept))
    assert first == second
