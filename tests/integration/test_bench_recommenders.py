"""clickstream bench ratings and next-item on real data, beside what others published and beside simple baselines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from click.testing import CliRunner

from processing.bench.commands import bench

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def test_movielens_gives_what_als_and_sar_are_known_for_and_ease_does_better(
    shared_data: Path, spark: SparkSession
) -> None:
    file = str(shared_data / "ml-100k" / "ml-100k.inter.gz")
    result = CliRunner().invoke(bench, ["ratings", "--file", file, "--json"])
    assert result.exit_code == 0, result.output
    facts = json.loads(result.stdout)["results"]
    assert abs(facts["als"]["rmse"] - 0.967) < 0.01  # each as published by Microsoft Recommenders
    assert abs(facts["cooccurrence"]["ndcg"] - 0.382) < 0.015  # SAR
    assert facts["biases"]["rmse"] < 1.0
    assert facts["ease"]["ndcg"] >= 0.475  # BiVAE
    assert facts["ease"]["users"] == 943
    assert facts["ease"]["ndcg_over_popularity_interval"][0] > 0.2


def test_sessions_of_a_shop_are_continued_better_than_by_popularity_or_a_markov_chain(shared_data: Path) -> None:
    folder = shared_data / "yoochoose"
    files = ["--train", str(folder / "clicks_train_full.tsv.gz"), "--test", str(folder / "clicks_test.tsv.gz")]
    result = CliRunner().invoke(bench, ["next-item", *files, "--json"])
    assert result.exit_code == 0, result.output
    facts = json.loads(result.stdout)["results"]
    for baseline in ("popularity", "markov"):
        assert facts["blend"][f"recall_over_{baseline}_interval"][0] > 0.05
        assert facts["blend"][f"mrr_over_{baseline}_interval"][0] > 0.01
