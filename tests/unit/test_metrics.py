"""Ranking metrics against values worked out by hand."""

from __future__ import annotations

import math

import pytest

from processing.training.metrics import Estimate, bootstrap, ndcg_at_k, recall_at_k


def test_recall_is_the_part_of_the_relevant_that_is_found() -> None:
    assert recall_at_k(["a", "x", "b", "c"], {"a", "b", "c", "d"}, 3) == 0.5
    assert recall_at_k([], {"a"}, 10) == 0.0


def test_ndcg_discounts_by_place_and_is_1_for_the_best_order() -> None:
    assert ndcg_at_k(["a", "b", "x"], {"a", "b"}, 10) == 1.0
    assert ndcg_at_k(["x", "a"], {"a"}, 10) == pytest.approx(1 / math.log2(3))
    assert ndcg_at_k(["a", "x", "b"], {"a", "b"}, 10) == pytest.approx((1 + 0.5) / (1 + 1 / math.log2(3)))
    assert ndcg_at_k(["x", "a"], {"a"}, 1) == 0.0


def test_with_more_relevant_items_than_places_the_best_order_fills_the_places() -> None:
    assert ndcg_at_k(["a", "b"], {"a", "b", "c", "d"}, 2) == 1.0


def test_nobody_to_measure_on_gives_no_number() -> None:
    assert bootstrap([]) == Estimate(None, None, None)
    assert bootstrap([]).interval is None


def test_the_interval_is_that_of_the_mean() -> None:
    values = [0.0, 1.0] * 200
    found = bootstrap(values)
    assert found.mean == 0.5 and found.low is not None and found.high is not None
    # The mean's standard error is 0.5 / sqrt(400) = 0.025.
    assert found.low == pytest.approx(0.5 - 1.96 * 0.025, abs=0.008)
    assert found.high == pytest.approx(0.5 + 1.96 * 0.025, abs=0.008)
    assert found == bootstrap(values) != bootstrap(values, seed=1)


def test_one_value_has_an_interval_of_no_width() -> None:
    assert bootstrap([0.25]) == Estimate(0.25, 0.25, 0.25)
