"""Recommenders that score each item from those that a user has met: one interface. Pure: numpy in and out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from processing.training import linear

Parameters = Mapping[str, Any]
Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Met:
    """Who met what: a row each of user, item, value (a rating or a weight) and, maybe, time; `n_items` in all."""

    users: npt.NDArray[np.int64]
    items: npt.NDArray[np.int64]
    values: Matrix
    times: Matrix | None
    n_items: int

    @cached_property
    def shares(self) -> Matrix:
        """The values as shares of the largest."""
        shares: Matrix = self.values / max(self.values.max(initial=0.0), 1e-9)
        return shares

    @cached_property
    def together(self) -> Matrix:
        """(items x items): how many users met both."""
        return linear.gram(self.users, self.items, np.ones_like(self.values), self.n_items)

    @cached_property
    def together_by_share(self) -> Matrix:
        """(items x items): the sum over users of the product of both shares."""
        return linear.gram(self.users, self.items, self.shares, self.n_items)


class Recommender(Protocol):
    """Learns from who met what, with parameters out of its `grid`; then scores all items for users by their rows."""

    grid: ClassVar[Mapping[str, tuple[Any, ...]]]

    def __init__(self, met: Met, parameters: Parameters) -> None: ...

    def scores(self, users: npt.NDArray[np.int64]) -> Matrix:
        """(len(users) x items), for ascending users who have met something."""


@runtime_checkable
class Predictor(Recommender, Protocol):
    """A recommender that says what a rating will be; its parameters are chosen by that."""

    def predict(self, users: npt.NDArray[np.int64], items: npt.NDArray[np.int64]) -> Matrix:
        """The rating expected of each pair, whose user and item are both among what was met."""


class Popularity:
    """How many users met an item, for everybody alike."""

    grid: ClassVar[Mapping[str, tuple[Any, ...]]] = {}

    def __init__(self, met: Met, parameters: Parameters) -> None:
        self._counts = np.bincount(met.items, minlength=met.n_items).astype(float)

    def scores(self, users: npt.NDArray[np.int64]) -> Matrix:
        return np.broadcast_to(self._counts, (len(users), len(self._counts)))


class Biases:
    """What a rating is without any taste: the mean, how generous the user is, how well the item is liked; both are
    drawn to 0 by so many ratings without any bias. Koren, Factor in the neighbors (2010), section 2.1."""

    grid: ClassVar[Mapping[str, tuple[Any, ...]]] = {"regularization": (1.0, 3.0, 10.0, 25.0)}

    def __init__(self, met: Met, parameters: Parameters) -> None:
        drawn, n_users = parameters["regularization"], int(met.users.max(initial=-1)) + 1
        self._mean = float(met.values.mean()) if len(met.values) else 0.0
        rest = met.values - self._mean
        self._items = _drawn(met.items, rest, met.n_items, drawn)
        self._users = _drawn(met.users, rest - self._items[met.items], n_users, drawn)

    def scores(self, users: npt.NDArray[np.int64]) -> Matrix:
        return self._mean + self._users[users, None] + self._items[None, :]

    def predict(self, users: npt.NDArray[np.int64], items: npt.NDArray[np.int64]) -> Matrix:
        predicted: Matrix = self._mean + self._users[users] + self._items[items]
        return predicted


class Cooccurrence:
    """SAR: Jaccard similarity of items, weighted by the user's ratings, which lose half their weight in `half_life`
    (a share of the whole time; None: never)."""

    grid: ClassVar[Mapping[str, tuple[Any, ...]]] = {"half_life": (None, 0.25, 0.1, 0.03)}

    def __init__(self, met: Met, parameters: Parameters) -> None:
        self._met, self._affinity = met, met.values.copy()
        if parameters["half_life"] is not None and met.times is not None and len(met.times):
            span = max(float(np.ptp(met.times)), 1e-9)
            self._affinity *= 0.5 ** ((met.times.max() - met.times) / (span * parameters["half_life"]))
        self._similarity = linear.jaccard(met.together)

    def scores(self, users: npt.NDArray[np.int64]) -> Matrix:
        return _rows(self._met, self._affinity, users) @ self._similarity


class Ease:
    """EASE^R on ones or on ratings, as `values` says."""

    grid: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        "values": ("ones", "ratings"),
        "regularization": (50.0, 100.0, 200.0, 350.0, 500.0, 800.0),
    }

    def __init__(self, met: Met, parameters: Parameters) -> None:
        rated = parameters["values"] == "ratings"
        self._met, self._values = met, met.shares if rated else np.ones_like(met.values)
        together = met.together_by_share if rated else met.together
        self._weights = linear.ease(together, parameters["regularization"])

    def scores(self, users: npt.NDArray[np.int64]) -> Matrix:
        return _rows(self._met, self._values, users) @ self._weights


def combinations(recommender: type[Recommender]) -> list[dict[str, Any]]:
    """Every choice of parameters in the grid."""
    return [dict(zip(recommender.grid, values, strict=True)) for values in product(*recommender.grid.values())]


def top(model: Recommender, met: Met, users: npt.NDArray[np.int64], n: int) -> npt.NDArray[np.int64]:
    """(len(users) x n): the best items that a user has not met, best first; ties go by the item's index. -1 where there
    are no more. `users` ascend, and each has met something."""
    scores = np.where(_rows(met, np.ones_like(met.values), users) > 0, -np.inf, model.scores(users))
    order = np.argsort(-scores, axis=1, kind="stable")[:, :n]
    return np.where(np.isneginf(np.take_along_axis(scores, order, axis=1)), -1, order)


def _drawn(groups: npt.NDArray[np.int64], values: Matrix, n_groups: int, drawn: float) -> Matrix:
    """The mean of each group, with `drawn` zeros added."""
    sums = np.bincount(groups, weights=values, minlength=n_groups)
    mean: Matrix = sums / (np.bincount(groups, minlength=n_groups) + drawn)
    return mean


def _rows(met: Met, values: Matrix, users: npt.NDArray[np.int64]) -> Matrix:
    chosen = np.isin(met.users, users)
    known, rows = linear.dense(met.users[chosen], met.items[chosen], values[chosen], met.n_items)
    assert len(known) == len(users)
    return rows
