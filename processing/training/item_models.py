"""Recommenders that score each item from those that a user has met: one interface. Pure: numpy in and out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any, ClassVar, Protocol

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


class Recommender(Protocol):
    """Learns from who met what, with parameters out of its `grid`; then scores all items for users by their rows."""

    grid: ClassVar[Mapping[str, tuple[Any, ...]]]

    def __init__(self, met: Met, parameters: Parameters) -> None: ...

    def scores(self, users: npt.NDArray[np.int64]) -> Matrix:
        """(len(users) x items), for ascending users who have met something."""


class Popularity:
    """How many users met an item, for everybody alike."""

    grid: ClassVar[Mapping[str, tuple[Any, ...]]] = {}

    def __init__(self, met: Met, parameters: Parameters) -> None:
        self._counts = np.bincount(met.items, minlength=met.n_items).astype(float)

    def scores(self, users: npt.NDArray[np.int64]) -> Matrix:
        return np.broadcast_to(self._counts, (len(users), len(self._counts)))


class Cooccurrence:
    """SAR: Jaccard similarity of items, weighted by the user's ratings, which lose half their weight in `half_life`
    (a share of the whole time; None: never)."""

    grid: ClassVar[Mapping[str, tuple[Any, ...]]] = {"half_life": (None, 0.25, 0.1, 0.03)}

    def __init__(self, met: Met, parameters: Parameters) -> None:
        self._met, self._affinity = met, met.values.copy()
        if parameters["half_life"] is not None and met.times is not None and len(met.times):
            span = max(float(np.ptp(met.times)), 1e-9)
            self._affinity *= 0.5 ** ((met.times.max() - met.times) / (span * parameters["half_life"]))
        together = linear.gram(met.users, met.items, np.ones_like(met.values), met.n_items)
        self._similarity = linear.jaccard(together)

    def scores(self, users: npt.NDArray[np.int64]) -> Matrix:
        return _rows(self._met, self._affinity, users) @ self._similarity


class Ease:
    """EASE^R on ones or on ratings, as `values` says."""

    grid: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        "values": ("ones", "ratings"),
        "regularization": (50.0, 100.0, 200.0, 350.0, 500.0, 800.0),
    }

    def __init__(self, met: Met, parameters: Parameters) -> None:
        values = met.values / max(met.values.max(initial=0.0), 1e-9)
        self._met, self._values = met, values if parameters["values"] == "ratings" else np.ones_like(values)
        together = linear.gram(met.users, met.items, self._values, met.n_items)
        self._weights = linear.ease(together, parameters["regularization"])

    def scores(self, users: npt.NDArray[np.int64]) -> Matrix:
        return _rows(self._met, self._values, users) @ self._weights


RECOMMENDERS: dict[str, type[Recommender]] = {"popularity": Popularity, "cooccurrence": Cooccurrence, "ease": Ease}


def combinations(recommender: type[Recommender]) -> list[dict[str, Any]]:
    """Every choice of parameters in the grid."""
    return [dict(zip(recommender.grid, values, strict=True)) for values in product(*recommender.grid.values())]


def top(model: Recommender, met: Met, users: npt.NDArray[np.int64], n: int) -> npt.NDArray[np.int64]:
    """(len(users) x n): the best items that a user has not met, best first; ties go by the item's index. -1 where there
    are no more. `users` ascend, and each has met something."""
    scores = np.where(_rows(met, np.ones_like(met.values), users) > 0, -np.inf, model.scores(users))
    order = np.argsort(-scores, axis=1, kind="stable")[:, :n]
    return np.where(np.isneginf(np.take_along_axis(scores, order, axis=1)), -1, order)


def _rows(met: Met, values: Matrix, users: npt.NDArray[np.int64]) -> Matrix:
    chosen = np.isin(met.users, users)
    known, rows = linear.dense(met.users[chosen], met.items[chosen], values[chosen], met.n_items)
    assert len(known) == len(users)
    return rows
