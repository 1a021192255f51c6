"""clickstream bench ratings and next-item on real data, beside what others published and beside simple baselines."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from processing.bench.commands import bench
from tests.support.ratings import planted

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


MEASURED = "popularity,biases,cooccurrence,ease,als_explicit"


@pytest.mark.models
def test_movielens_gives_what_als_and_sar_are_known_for_and_ease_does_better(shared_data: Path) -> None:
    file = str(shared_data / "ml-100k" / "ml-100k.inter.gz")
    # A process of its own: the tests' session compiles no queries, which here would take minutes.
    command = [
        sys.executable,
        "-m",
        "infra.cli",
        "bench",
        "ratings",
        "--file",
        file,
        "--algorithms",
        MEASURED,
        "--json",
    ]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    facts = json.loads(result.stdout)["results"]
    # Both ways: figures that are too good would tell of a leak. Published by Microsoft Recommenders: 0.967 and 0.382.
    assert 0.92 < facts["als_explicit"]["rmse"] < 0.967
    assert 0.382 < facts["cooccurrence"]["ndcg"] < 0.42  # SAR
    assert 0.92 < facts["biases"]["rmse"] < 0.96
    assert 0.475 <= facts["ease"]["ndcg"] < 0.51  # BiVAE: 0.475
    assert facts["ease"]["users"] == 943
    assert facts["ease"]["ndcg_over_popularity_interval"][0] > 0.2


def run(file: Path) -> dict[str, dict[str, Any]]:
    arguments = ["ratings", "--file", str(file), "--algorithms", "popularity,cooccurrence,ease", "--k", "5", "--json"]
    result = CliRunner().invoke(bench, arguments)
    assert result.exit_code == 0, result.output
    facts: dict[str, dict[str, Any]] = json.loads(result.stdout)["results"]
    return facts


def test_planted_tastes_are_found_and_popularity_does_not_find_them(tmp_path: Path, spark: SparkSession) -> None:
    file = planted(tmp_path, users=60)
    facts = run(file)
    assert facts["ease"]["ndcg"] > 1.3 * facts["popularity"]["ndcg"]
    assert facts["cooccurrence"]["ndcg"] > 1.3 * facts["popularity"]["ndcg"]
    ahead = facts["ease"]["ndcg_over_popularity"]
    assert ahead == pytest.approx(facts["ease"]["ndcg"] - facts["popularity"]["ndcg"], abs=1e-5)
    low, high = facts["ease"]["ndcg_over_popularity_interval"]
    assert 0 < low < ahead < high
    assert "ndcg_over_popularity" not in facts["popularity"] and "rmse" not in facts["ease"]
    assert facts == run(file)


@pytest.mark.models
def test_sessions_of_a_shop_are_continued_better_than_by_popularity_or_a_markov_chain(shared_data: Path) -> None:
    folder = shared_data / "yoochoose"
    files = ["--train", str(folder / "clicks_train_full.tsv.gz"), "--test", str(folder / "clicks_test.tsv.gz")]
    result = CliRunner().invoke(bench, ["next-item", *files, "--json"])
    assert result.exit_code == 0, result.output
    facts = json.loads(result.stdout)["results"]
    for baseline in ("popularity", "markov"):
        assert facts["nearest_sessions"][f"recall_over_{baseline}_interval"][0] > 0.05
        assert facts["nearest_sessions"][f"mrr_over_{baseline}_interval"][0] > 0.01
