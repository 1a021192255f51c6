"""Click models on planted truth: found, calibrated, the same after a save; and on real data, with their margins."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest

from processing.bench.clicks.actions import read_actions
from processing.bench.clicks.examples import Examples, read_examples
from processing.bench.clicks.impressions import replay
from processing.bench.splits import stratified_folds
from processing.training.classification_metrics import evaluate

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

QUICK = {
    "gbt": [{"maxDepth": 2, "maxIter": 5, "stepSize": 0.5}],
    "forest": [{"maxDepth": 4, "numTrees": 10}],
    "logistic": [{"regParam": 0.001}],
}


@pytest.fixture(scope="module")
def planted(spark: SparkSession) -> DataFrame:
    """Some of 4,000 rows are yes: by `x`, which is missing now and then, and by the color; `noise` says nothing."""
    random, n = np.random.default_rng(3), 4_000
    x, red = random.normal(size=n), random.random(n) < 0.3
    chance = 1 / (1 + np.exp(3.5 - 1.5 * x - 2 * red))
    table = {
        "the x": pa.array(x, mask=random.random(n) < 0.05),
        "noise": random.normal(size=n),
        "color": np.where(red, "red", np.array([f"c{code}" for code in random.integers(0, 60, n)])),
        "yes": (random.random(n) < chance).astype(int),
        "fold": np.arange(n) % 2,
        "test": np.arange(n) >= n // 2,
    }
    return spark.createDataFrame(pa.table(table)).coalesce(1).cache()


@pytest.mark.parametrize(
    "algorithm", [pytest.param(name, marks=[] if name == "logistic" else pytest.mark.models) for name in QUICK]
)
def test_planted_truth_is_found_and_calibrated(planted: DataFrame, algorithm: str) -> None:
    from processing.training.classifiers import fit

    train, test = planted.filter("not test"), planted.filter("test")
    model = fit(train, "yes", ["the x", "noise"], ["color"], "fold", algorithm, QUICK[algorithm])
    scored = model.score(test).toPandas()
    assert [*scored.columns] == [*planted.columns, "probability"]
    good = evaluate(scored["yes"], scored["probability"], resamples=2)
    assert good["auc"].mean and good["auc"].mean > 0.75
    assert good["ece"].mean and good["ece"].mean < 0.05  # though the labels were weighted alike to learn
    assert scored["probability"].mean() == pytest.approx(scored["yes"].mean(), abs=0.03)
    assert min(model.importances["the x"], model.importances["color"]) > 3 * model.importances["noise"]
    assert sum(model.importances.values()) == pytest.approx(1, abs=1e-4)


def test_a_saved_model_scores_alike_a_missing_number_and_an_unseen_category(
    planted: DataFrame, spark: SparkSession, tmp_path: Path
) -> None:
    from processing.training.classifiers import Classifier, fit

    model = fit(planted, "yes", ["the x", "noise"], ["color"], "fold", "logistic", QUICK["logistic"])
    counts = planted.groupBy("color").count().toPandas().set_index("color")["count"]
    rows = [("red", 1.0), ("red", None), ("never seen", 1.0), (None, 1.0), (counts.idxmin(), 1.0)]
    frame = spark.createDataFrame(rows, "color STRING, `the x` DOUBLE").selectExpr("*", "0.0 AS noise")
    model.save(f"file://{tmp_path}/model")
    again = Classifier.load(f"file://{tmp_path}/model")
    scored = [row.probability for row in model.score(frame).collect()]
    assert [row.probability for row in again.score(frame).collect()] == scored
    assert (again.parameters, again.importances) == (model.parameters, model.importances)
    red, missing, unseen, none, rare = scored
    assert red > missing > 0 and red > unseen
    assert unseen == none == rare


@pytest.mark.parametrize("algorithm", ["logistic", pytest.param("gbt", marks=pytest.mark.models)])
def test_columns_in_which_nothing_is_known_yet_say_nothing(planted: DataFrame, algorithm: str) -> None:
    from processing.training.classifiers import fit

    frame = planted.selectExpr(
        "*", "CAST(NULL AS INT) AS unknown", "DOUBLE('NaN') AS odd", "CAST(NULL AS STRING) AS no"
    )
    model = fit(frame, "yes", ["unknown", "the x", "odd"], ["no"], "fold", algorithm, QUICK[algorithm])
    assert model.importances["the x"] == pytest.approx(1)
    some = frame.limit(20)
    known = some.drop("unknown", "no").selectExpr("*", "7.5 AS unknown", "'red' AS no")
    assert [row.probability for row in model.score(known).collect()] == pytest.approx(
        [row.probability for row in model.score(some).collect()]
    )


def test_what_nothing_can_be_learnt_from_says_why(planted: DataFrame) -> None:
    from processing.training.classifiers import fit

    with pytest.raises(ValueError, match=r"labels are \[0\.0\]"):
        fit(planted.filter("yes = 0"), "yes", ["noise"], [], "fold", "logistic")
    with pytest.raises(ValueError, match="no columns"):
        fit(planted, "yes", [], [], "fold")
    with pytest.raises(ValueError, match="two folds"):
        fit(planted.filter("fold = 0"), "yes", ["noise"], [], "fold", "logistic")


@pytest.mark.models
def test_a_bench_is_nested_and_shows_what_a_column_is_worth(spark: SparkSession, tmp_path: Path) -> None:
    from click.testing import CliRunner

    from processing.bench.commands import bench

    random = np.random.default_rng(2)
    lines = ["id,told,noise,label"]
    for row in range(300):
        label = int(random.random() < 0.3)
        lines.append(f"{row},{label + random.normal():.4f},{random.normal():.4f},{'b' if label else 'a'}")
    path = tmp_path / "table.csv"
    path.write_text("\n".join(lines))
    command = ["classify", str(path), "--label", "label", "--positive", "b", "--without", "told", "--folds", "2"]
    result = CliRunner().invoke(bench, [*command, "--algorithms", "logistic", "--json"])
    assert result.exit_code == 0, result.output
    facts = json.loads(result.stdout)
    assert facts["left_out"] == {"id": "as many values as rows"}
    told, untold = facts["results"]["all columns"], facts["results"]["without told"]
    assert told["base rate"]["auc"] == pytest.approx(0.5, abs=0.05)
    assert told["logistic"]["auc_interval"][0] > untold["logistic"]["auc_interval"][1]
    assert len(told["logistic"]["folds"]) == len(told["logistic"]["parameters"]) == 2
    assert sum(one["count"] for one in told["logistic"]["reliability"]) == 300


def shoppers(spark: SparkSession, examples: Examples, without: str | None) -> float:
    """AUC of a forest on a fifth of the rows; quicker than the bench: one choice of parameters, two inner folds."""
    from processing.training.classifiers import fit, frame_of

    folds = stratified_folds(examples.labels, 5, seed=42)
    numeric = [name for name in examples.numeric if name != without]
    rows = {"_label": examples.labels, "_fold": np.arange(len(folds)) % 2, "_test": folds == 0}
    columns: dict[str, Any] = {name: examples.table[name] for name in examples.table.column_names}
    frame = frame_of(spark, pa.table(columns | rows)).cache()
    grid = [{"maxDepth": 7, "numTrees": 20}]
    model = fit(frame.filter("not _test"), "_label", numeric, examples.categorical, "_fold", "forest", grid)
    scored = model.score(frame.filter("_test")).select("_label", "probability").toPandas()
    frame.unpersist()
    area = evaluate(scored["_label"], scored["probability"], resamples=2)["auc"].mean
    assert area is not None
    return area


@pytest.mark.models
def test_shoppers_who_buy_are_told_by_page_values_and_worse_without(spark: SparkSession, shared_data: Path) -> None:
    file = shared_data / "online-shoppers" / "online_shoppers_intention.csv.gz"
    examples = read_examples(file, "Revenue", "1")
    assert examples.categorical == ["Month", "VisitorType"] and not examples.left_out
    assert shoppers(spark, examples, None) > 0.915
    assert 0.73 < shoppers(spark, examples, "PageValues") < 0.83


@pytest.mark.models
def test_hotels_are_ordered_better_than_they_were_shown(spark: SparkSession, shared_data: Path) -> None:
    from processing.bench.clicks.reranking import run

    actions = read_actions(shared_data / "trivago" / "events.parquet")
    some = [action for action in actions if zlib.crc32(action.user.encode()) % 4 == 0]
    facts = run(spark, replay(some, 0.8), ["given", "touched", "logistic"], 42, lambda _: None)
    assert facts["touched"]["mrr_over_given_interval"][0] > 0.05
    assert facts["logistic"]["mrr_over_given_interval"][0] > 0.1
    assert facts["logistic"]["mrr_over_touched_interval"][1] > 0
    assert facts["logistic"]["ece"] < 0.01
