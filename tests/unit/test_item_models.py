"""Item-item recommenders against their definitions."""

from __future__ import annotations

import numpy as np
import pytest

from processing.training import linear
from processing.training.catalog import RECOMMENDERS, SPARK, recommender
from processing.training.item_models import Biases, Cooccurrence, Ease, Met, Popularity, combinations, top

# Users 0 to 3, items 0 to 3: two tastes, and item 3 that nobody met.
USERS = np.array([0, 0, 1, 1, 2, 2, 3])
ITEMS = np.array([0, 1, 0, 1, 1, 2, 0])
MET = Met(USERS, ITEMS, np.array([5.0, 4, 3, 5, 1, 2, 4]), np.arange(7.0), 4)


def test_ease_is_the_ridge_regression_of_each_item_on_all_others() -> None:
    random = np.random.default_rng(1)
    x = (random.random((40, 6)) < 0.4).astype(float)
    weights = linear.ease(x.T @ x, 3.0)
    for item in range(6):
        others = [other for other in range(6) if other != item]
        a = x[:, others]
        expected = np.linalg.solve(a.T @ a + 3.0 * np.eye(5), a.T @ x[:, item])
        assert np.allclose(weights[others, item], expected)
        assert weights[item, item] == 0


def test_jaccard_counts_users_who_met_both_among_those_who_met_either() -> None:
    together = linear.gram(USERS, ITEMS, np.ones(7), 4)
    assert linear.jaccard(together).tolist() == [
        [1, 2 / 4, 0, 0],
        [2 / 4, 1, 1 / 3, 0],
        [0, 1 / 3, 1, 0],
        [0, 0, 0, 0],
    ]


def test_a_gram_matrix_is_the_same_whatever_users_are_taken_together(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = linear.gram(USERS, ITEMS, MET.values, 4)
    monkeypatch.setattr(linear, "_USERS", 1)
    shuffled = np.random.default_rng(2).permutation(7)
    assert np.allclose(linear.gram(USERS[shuffled], ITEMS[shuffled], MET.values[shuffled], 4), whole)
    assert linear.gram(USERS[:0], ITEMS[:0], MET.values[:0], 4).tolist() == np.zeros((4, 4)).tolist()


@pytest.mark.parametrize("name", sorted(RECOMMENDERS.keys() - SPARK))
def test_lists_hold_nothing_that_was_met_and_end_in_nothing(name: str) -> None:
    model = recommender(name)(MET, combinations(recommender(name))[0])
    ranked = top(model, MET, np.array([0, 2, 3]), 4)
    assert [sorted(row[row >= 0].tolist()) for row in ranked] == [[2, 3], [0, 3], [1, 2, 3]]
    assert ranked[0, 2:].tolist() == [-1, -1]


def test_popular_items_come_first_and_ties_go_by_index() -> None:
    assert top(Popularity(MET, {}), MET, np.array([3]), 3).tolist() == [[1, 2, 3]]
    assert top(Popularity(MET, {}), MET, np.array([2]), 2).tolist() == [[0, 3]]


def test_what_was_met_lately_counts_more_when_affinity_decays() -> None:
    # The user met item 0 long ago and item 1 now; item 2 goes with 0, item 3 with 1.
    users, items = np.array([0, 0, 1, 1, 2, 2]), np.array([0, 1, 0, 2, 1, 3])
    met = Met(users, items, np.ones(6), np.array([0.0, 10, 10, 10, 10, 10]), 4)
    assert top(Cooccurrence(met, {"half_life": None}), met, np.array([0]), 1).tolist() == [[2]]  # a tie
    assert top(Cooccurrence(met, {"half_life": 0.1}), met, np.array([0]), 1).tolist() == [[3]]


def test_ease_may_learn_from_ratings_instead_of_ones() -> None:
    ones = Ease(MET, {"values": "ones", "regularization": 1.0}).scores(np.array([3]))
    rated = Ease(MET, {"values": "ratings", "regularization": 1.0}).scores(np.array([3]))
    assert not np.allclose(ones, rated)
    assert len(combinations(Ease)) == 12


def test_biases_are_means_of_what_is_left_with_zeros_added() -> None:
    model = Biases(MET, {"regularization": 1.0})
    mean = 24 / 7
    of_item_0 = (5 + 3 + 4 - 3 * mean) / (3 + 1)
    of_user_3 = (4 - mean - of_item_0) / (1 + 1)
    assert model.predict(np.array([3]), np.array([0])) == pytest.approx(mean + of_item_0 + of_user_3)
    of_item_2 = (2 - mean) / (1 + 1)
    assert model.scores(np.array([3]))[0, 2] == pytest.approx(mean + of_item_2 + of_user_3)


def test_a_gram_matrix_is_computed_once_for_all_choices(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    real = linear.gram
    monkeypatch.setattr(linear, "gram", lambda *arguments: calls.append(1) or real(*arguments))
    met = Met(USERS, ITEMS, MET.values, None, 4)
    for choice in combinations(Ease):
        Ease(met, choice)
    assert len(calls) == 2  # of ones, and of ratings
