"""clickstream bench ratings and next-item on real data, beside what others published and beside simple baselines."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner

from processing.bench.commands import bench


def test_movielens_gives_what_sar_is_known_for_and_ease_does_better(shared_data: Path) -> None:
    file = str(shared_data / "ml-100k" / "ml-100k.inter.gz")
    result = CliRunner().invoke(bench, ["ratings", "--file", file, "--json"])
    assert result.exit_code == 0, result.output
    facts = json.loads(result.stdout)["results"]
    assert abs(facts["cooccurrence"]["ndcg"] - 0.382) < 0.015  # SAR in Microsoft Recommenders
    assert facts["ease"]["ndcg"] >= 0.475  # BiVAE there
    assert facts["ease"]["users"] == 943
    assert facts["ease"]["ndcg_interval"][0] > facts["popularity"]["ndcg_interval"][1]


def test_sessions_of_a_shop_are_continued_better_than_by_popularity_or_a_markov_chain(shared_data: Path) -> None:
    folder = shared_data / "yoochoose"
    files = ["--train", str(folder / "clicks_train_full.tsv.gz"), "--test", str(folder / "clicks_test.tsv.gz")]
    result = CliRunner().invoke(bench, ["next-item", *files, "--json"])
    assert result.exit_code == 0, result.output
    facts = json.loads(result.stdout)["results"]
    for baseline in ("popularity", "markov"):
        assert facts["blend"]["recall"] > facts[baseline]["recall"]
        assert facts["blend"]["mrr"] > facts[baseline]["mrr"]
    assert facts["blend"]["recall_interval"][0] > facts["markov"]["recall_interval"][1]
