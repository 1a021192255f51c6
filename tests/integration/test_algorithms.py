"""Recommenders on interactions small enough to count by hand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from processing.algorithms import als, ease, recipes
from processing.algorithms.cooccurrence import cooccurrence
from processing.algorithms.interface import RatingModel, TrainingSet
from processing.algorithms.nearest_sessions import sessions
from processing.algorithms.recipes import Recipe

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    from processing.algorithms.interface import Model

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
GAP = timedelta(minutes=30)


def training_set(spark: SparkSession, *met: tuple[str, str, float, float]) -> TrainingSet:
    """Of (visitor, item, weight, minutes after noon)."""
    rows = [(who, item, weight, NOON + timedelta(minutes=minutes)) for who, item, weight, minutes in met]
    frame = spark.createDataFrame(rows, "visitor_id STRING, item_id STRING, weight DOUBLE, last_at TIMESTAMP").persist()
    newest = max((row[3] for row in rows), default=NOON)
    return TrainingSet(frame, frame.selectExpr("visitor_id", "item_id", "last_at AS occurred_at"), newest, GAP)


def weights(frame: DataFrame) -> dict[tuple[str, str], float]:
    return {(row.item_id, row.other_id): row.weight for row in frame.collect()}


def ranked(model: Model | None, data: TrainingSet, visitor: str) -> list[str]:
    assert model is not None
    visitors = data.interactions.filter(f"visitor_id = '{visitor}'").select("visitor_id").distinct()
    return [row.item_id for row in sorted(model.top(visitors, data.interactions, 9).collect(), key=lambda r: r.rank)]


# Two tastes: a and b, b and c.
TASTES = [("u", "a", 5.0, 0), ("u", "b", 4.0, 1), ("v", "a", 3.0, 2), ("v", "b", 5.0, 3), ("w", "b", 1.0, 4)]
TASTES += [("w", "c", 2.0, 5), ("x", "a", 4.0, 6)]


def test_jaccard_counts_visitors_who_met_both_among_those_who_met_either(spark: SparkSession) -> None:
    found = weights(cooccurrence(training_set(spark, *TASTES).interactions, "jaccard"))
    assert found == {
        ("a", "b"): 0.5,
        ("b", "a"): 0.5,
        ("b", "c"): pytest.approx(1 / 3),
        ("c", "b"): pytest.approx(1 / 3),
    }


def test_what_was_met_lately_counts_more_when_affinity_decays(spark: SparkSession) -> None:
    day = 1440.0
    met = [("u", "a", 2.0, 0), ("u", "b", 2.0, 10 * day), ("v", "a", 1.0, 0), ("v", "c", 1.0, 0), ("w", "b", 1.0, 0)]
    data = training_set(spark, *met, ("w", "d", 1.0, 0))
    assert ranked(recipes.fit(data, Recipe("cooccurrence")), data, "u") == ["c", "d"]  # a tie
    assert ranked(recipes.fit(data, Recipe("cooccurrence", {"half_life_days": 1.0})), data, "u") == ["d", "c"]


@pytest.mark.parametrize("weighted", [False, True])
def test_the_gram_matrix_is_that_of_visitors_and_items(spark: SparkSession, weighted: bool) -> None:
    names, gram = ease.gram(training_set(spark, *TASTES).interactions, weighted, 9)
    x = np.zeros((4, 3))
    for who, item, weight, _ in TASTES:
        x["uvwx".index(who), "abc".index(item)] = np.log1p(weight) if weighted else 1.0
    assert names == ["a", "b", "c"] and np.allclose(gram, x.T @ x, atol=1e-5)


def test_a_gram_matrix_is_computed_once_for_all_penalties(spark: SparkSession, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[bool] = []
    real = ease.gram
    monkeypatch.setattr(ease, "gram", lambda *given: calls.append(given[1]) or real(*given))
    data = training_set(spark, *TASTES)
    for weighted in (False, True):
        for penalty in (1.0, 9.0):
            assert recipes.fit(data, Recipe("ease", {"regularization": penalty, "weighted": weighted})) is not None
    assert calls == [False, True]


def test_explicit_als_predicts_weights_of_pairs_that_it_knows(spark: SparkSession) -> None:
    data = training_set(spark, *((f"v{v}", f"i{i}", 1.0 + (v * i) % 4, 0) for v in range(1, 9) for i in range(1, 7)))
    model = als.fit(data.interactions, {"explicit": True, "rank": 8, "regularization": 0.01})
    assert isinstance(model, RatingModel)
    more = spark.createDataFrame([("v1", "unknown")], "visitor_id STRING, item_id STRING")
    pairs = data.interactions.select("visitor_id", "item_id").unionByName(more)
    found = {(row.visitor_id, row.item_id): row.prediction for row in model.predict(pairs).collect()}
    given = {(row.visitor_id, row.item_id): row.weight for row in data.interactions.collect()}
    assert found.keys() == given.keys()
    assert np.sqrt(np.mean([(found[pair] - given[pair]) ** 2 for pair in given])) < 0.2
    assert not isinstance(als.fit(data.interactions, {"alpha": 3.0}), RatingModel)


# Ann saw a, b, c in a row and came back for d, e; Bob b, c; Cem only a.
VISITS = [
    ("ann", "a", 1.0, 0),
    ("ann", "b", 1.0, 1),
    ("ann", "c", 1.0, 2),
    ("ann", "d", 1.0, 60),
    ("ann", "e", 1.0, 61),
]
VISITS += [("bob", "b", 1.0, 10), ("bob", "c", 1.0, 11), ("cem", "a", 1.0, 30)]


def test_sessions_end_with_a_pause_and_the_newest_are_learnt_from(spark: SparkSession) -> None:
    data = training_set(spark, *VISITS, ("bob", "c", 1.0, 12))
    assert sessions(data.visits, GAP, 9) == [["a", "b", "c"], ["b", "c"], ["d", "e"]]
    assert sessions(data.visits, GAP, 2) == [["b", "c"], ["d", "e"]]


def test_lists_follow_from_the_latest_session_and_hold_nothing_that_was_met(spark: SparkSession) -> None:
    data = training_set(spark, *VISITS, ("dan", "d", 1.0, 70), ("eve", "b", 1.0, 0), ("eve", "d", 1.0, 80))
    model = recipes.fit(data, Recipe("nearest_sessions"))
    assert ranked(model, data, "cem") == ["b", "c"]  # b followed a at once
    assert ranked(model, data, "dan") == ["e"]
    assert ranked(model, data, "eve") == ["e"]  # what she saw an hour before leads nowhere
    assert ranked(model, data, "ann") == []


def test_the_order_of_a_session_counts(spark: SparkSession) -> None:
    learnt = [("p", "a", 1.0, 0), ("p", "x", 1.0, 1), ("q", "b", 1.0, 0), ("q", "y", 1.0, 1)]
    asked: list[Any] = [("m", "a", 1.0, 200), ("m", "b", 1.0, 201), ("n", "b", 1.0, 200), ("n", "a", 1.0, 201)]
    data = training_set(spark, *learnt)
    model = recipes.fit(data, Recipe("nearest_sessions"))
    both = training_set(spark, *learnt, *asked)
    assert ranked(model, both, "m") == ["y", "x"]
    assert ranked(model, both, "n") == ["x", "y"]


class Asked:
    """An ALS model that remembers for how many visitors which length of list was asked."""

    def __init__(self, model: Any) -> None:
        self.model, self.lists = model, dict[int, int]()

    def recommendForUserSubset(self, visitors: DataFrame, length: int) -> DataFrame:  # noqa: N802
        self.lists[length] = visitors.distinct().count()
        lists: DataFrame = self.model.recommendForUserSubset(visitors, length)
        return lists


def test_who_has_met_much_makes_nobody_elses_list_longer(spark: SparkSession, monkeypatch: pytest.MonkeyPatch) -> None:
    data = training_set(
        spark,
        *(("much", f"/{n}", 1.0, 0.0) for n in range(6)),
        *((f"v{n}", f"/{n + more}", 1.0, 0.0) for n in range(5) for more in (0, 3)),
    )
    found = als.fit(data.interactions, {"alpha": 3.0, "rank": 2})
    assert found is not None
    visitors = data.interactions.select("visitor_id").distinct()

    def top() -> tuple[list[Any], dict[int, int]]:
        asked = Asked(found.model)
        lists = als.Factors(asked, found.visitors, found.items).top(visitors, data.interactions, 2)  # type: ignore[arg-type]
        return sorted(map(tuple, lists.collect())), asked.lists

    expected, lists = top()
    assert lists == {2 + 6: 6}
    monkeypatch.setattr(als, "_USUALLY_MET", 2)
    assert top() == (expected, {2 + 2: 5, 2 + 6: 1})


def test_all_trials_of_a_search_share_what_als_keeps_of_the_ratings(spark: SparkSession) -> None:
    data = training_set(spark, ("ann", "/a", 1.0, 0.0), ("bob", "/b", 1.0, 0.0))
    kept = []
    for rank in (2, 3):
        recipes.fit(data, Recipe("als", {"rank": rank}))
        kept.append(spark.sparkContext._jsc.getPersistentRDDs().size())
    assert kept[1] - kept[0] <= 2  # MLlib's factors, which go with their model
