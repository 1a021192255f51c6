"""Baselines and EASE's closed form against their definitions, and the names that the command line lists."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from processing.algorithms import ALGORITHMS, algorithm, ease, searched
from processing.bench.files import Ratings
from processing.bench.recommenders.baselines import Biases, Popularity
from processing.bench.recommenders.catalog import RATING_BASELINES, contestant
from processing.bench.recommenders.interface import Predictor
from processing.bench.recommenders.ratings import tune

# Users 0 to 3, items 0 to 3: two tastes, and item 3 that nobody met.
USERS = np.array([0, 0, 1, 1, 2, 2, 3])
ITEMS = np.array([0, 1, 0, 1, 1, 2, 0])
MET = Ratings(USERS, ITEMS, np.array([5.0, 4, 3, 5, 1, 2, 4]), np.arange(7.0), list("uvwx"), list("abcd"))


def test_ease_is_the_ridge_regression_of_each_item_on_all_others() -> None:
    random = np.random.default_rng(1)
    x = (random.random((40, 6)) < 0.4).astype(float)
    weights = ease.ridge(x.T @ x, 3.0)
    for item in range(6):
        others = [other for other in range(6) if other != item]
        a = x[:, others]
        expected = np.linalg.solve(a.T @ a + 3.0 * np.eye(5), a.T @ x[:, item])
        assert np.allclose(weights[others, item], expected)
        assert weights[item, item] == 0


@pytest.mark.parametrize("name", RATING_BASELINES)
def test_lists_hold_nothing_that_was_met_and_end_in_nothing(name: str) -> None:
    kind = contestant(name)
    model = kind.fit(MET, {key: values[0] for key, values in kind.grid.items()})
    ranked = model.lists(np.array([0, 2, 3]), 4)
    assert [sorted(row[row >= 0].tolist()) for row in ranked] == [[2, 3], [0, 3], [1, 2, 3]]
    assert ranked[0, 2:].tolist() == [-1, -1]


def test_popular_items_come_first_and_ties_go_by_index() -> None:
    model = Popularity.fit(MET, {})
    assert model.lists(np.array([3]), 3).tolist() == [[1, 2, 3]]
    assert model.lists(np.array([2]), 2).tolist() == [[0, 3]]


def test_biases_are_means_of_what_is_left_with_zeros_added() -> None:
    model = Biases.fit(MET, {"regularization": 1.0})
    assert isinstance(model, Predictor)
    mean = 24 / 7
    of_item_0 = (5 + 3 + 4 - 3 * mean) / (3 + 1)
    of_user_3 = (4 - mean - of_item_0) / (1 + 1)
    of_item_2 = (2 - mean) / (1 + 1)
    predicted = model.predict(np.array([3, 3]), np.array([0, 2]))
    assert predicted == pytest.approx([mean + of_item_0 + of_user_3, mean + of_item_2 + of_user_3])


class Peak:
    """Predicts best with a = 2 and b = 30, and tells what was tried."""

    grid = {"a": (1, 2, 3), "b": (10, 20, 30)}  # noqa: RUF012

    def __init__(self) -> None:
        self.tried: list[tuple[int, int]] = []

    def fit(self, train: Ratings, parameters: dict[str, int]) -> Peak:
        self.tried.append((parameters["a"], parameters["b"]))
        self.off = abs(parameters["a"] - 2) + abs(parameters["b"] - 30)
        return self

    def lists(self, users: np.ndarray, k: int) -> np.ndarray:
        raise AssertionError("chosen by what it predicts")

    def predict(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        return np.full(len(users), 3.0 + self.off)


def test_parameters_are_chosen_one_after_the_other() -> None:
    peak = Peak()
    held_out = Ratings(USERS[:2], ITEMS[:2], np.array([3.0, 3.0]), None, MET.user_ids, MET.item_ids)
    assert tune(peak, MET, held_out, 5) == {"a": 2, "b": 30}
    assert peak.tried == [(1, 10), (2, 10), (3, 10), (2, 20), (2, 30)]


def test_every_algorithm_is_there_and_its_space_varies_its_own_parameters() -> None:
    for name in ALGORITHMS:
        found = algorithm(name)
        assert found.space.keys() <= found.defaults.keys(), name
        assert (found.learn_sessions is not None) == ALGORITHMS[name].next_item, name


def test_a_search_tries_the_usual_algorithms_or_those_that_are_named() -> None:
    assert searched(()) == ("als", "ease", "cooccurrence", "sessions", "popular", "nearest_sessions")
    assert searched(("als_explicit", "als")) == ("als_explicit", "als")


def test_the_command_line_lists_algorithms_without_numpy_or_spark() -> None:
    code = "import sys, processing.commands; print({'numpy', 'pyspark', 'pandas', 'pyarrow'} & sys.modules.keys())"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "set()"
