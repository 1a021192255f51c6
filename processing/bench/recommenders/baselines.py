"""Baselines, which production does not train: what a recommender or a next-item model has to beat. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from processing.algorithms.session_neighbours import MarkovChain, NearestSessions
from processing.bench.files import Ratings

Matrix = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]


class Fitted:
    """A fitted baseline: scores (items,) or (users x items), from which lists are made."""

    def __init__(self, train: Ratings, scores: Matrix) -> None:
        self._train, self._scores = train, scores

    def lists(self, users: Indices, k: int) -> Indices:
        """(len(users) x k): the best items that a user has not met, best first, ties by index; -1 where there are no
        more. `users` ascend."""
        mine = np.isin(self._train.users, users)
        alike = self._scores.ndim == 1
        scores = np.tile(self._scores, (len(users), 1)) if alike else self._scores[users]
        scores[np.searchsorted(users, self._train.users[mine]), self._train.items[mine]] = -np.inf
        order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        return np.where(np.isneginf(np.take_along_axis(scores, order, axis=1)), -1, order)


class FittedRatings(Fitted):
    """Its scores are ratings."""

    def predict(self, users: Indices, items: Indices) -> Matrix:
        predicted: Matrix = self._scores[users, items]
        return predicted


class Popularity:
    """Scores an item by the number of users who met it, for everybody alike."""

    grid: ClassVar[Mapping[str, Sequence[Any]]] = {}

    @staticmethod
    def fit(train: Ratings, parameters: Mapping[str, Any]) -> Fitted:
        return Fitted(train, np.bincount(train.items, minlength=len(train.item_ids)).astype(float))


class Biases:
    """Predicts a rating by the mean, the user's bias and the item's; both are shrunk towards 0 as by so many ratings
    without any bias. Koren, Factor in the neighbors (2010), section 2.1."""

    grid: ClassVar[Mapping[str, Sequence[Any]]] = {"regularization": (1.0, 3.0, 10.0, 25.0)}

    @staticmethod
    def fit(train: Ratings, parameters: Mapping[str, Any]) -> Fitted:
        zeros = parameters["regularization"]
        mean = float(train.values.mean()) if len(train) else 0.0
        rest = train.values - mean
        of_items = _means(train.items, rest, len(train.item_ids), zeros)
        of_users = _means(train.users, rest - of_items[train.items], len(train.user_ids), zeros)
        return FittedRatings(train, mean + of_users[:, None] + of_items[None, :])


def _means(groups: Indices, values: Matrix, n_groups: int, zeros: float) -> Matrix:
    """The mean of each group, with so many `zeros` added."""
    sums = np.bincount(groups, weights=values, minlength=n_groups)
    mean: Matrix = sums / (np.bincount(groups, minlength=n_groups) + zeros)
    return mean


class PopularItems:
    """Scores an item by how often it occurs, whatever came before."""

    def __init__(self, sessions: Sequence[Sequence[int]]) -> None:
        self.counts = Counter(item for session in sessions for item in session)
        self._best = dict(self.counts.most_common(1_000))

    def scores(self, beginning: Sequence[int]) -> Mapping[int, float]:
        return self._best


def popular_items(sessions: Sequence[Sequence[int]]) -> PopularItems:
    return PopularItems(sessions)


def markov(sessions: Sequence[Sequence[int]]) -> MarkovChain:
    """The chain alone."""
    return MarkovChain(sessions)


def vsknn(sessions: Sequence[Sequence[int]]) -> NearestSessions:
    """Nearest sessions without the chain."""
    return NearestSessions(sessions, chain=0.0)
