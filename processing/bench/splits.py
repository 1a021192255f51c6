"""Train and test: pure, numpy in and out. The same arguments give the same split."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]
Kind = Literal["stratified", "time", "kfold"]


@dataclass(frozen=True, slots=True)
class Split:
    """A way to divide rows into train and test: `part` is the share of train, or for kfold the number of folds."""

    kind: Kind
    part: float

    @classmethod
    def parse(cls, text: str) -> Split:
        """ "stratified:0.75", "time:0.8" or "kfold:5". Raises ValueError, which says what is wrong."""
        kind, _, number = text.partition(":")
        if kind not in ("stratified", "time", "kfold"):
            raise ValueError(f"{text!r} is none of stratified:SHARE, time:SHARE, kfold:FOLDS")
        try:
            part = float(number)
        except ValueError:
            raise ValueError(f"{text!r}: {number!r} is no number") from None
        if kind == "kfold" and not (part >= 2 and part.is_integer()):
            raise ValueError(f"{text!r}: at least 2 folds, a whole number")
        if kind != "kfold" and not 0 < part < 1:
            raise ValueError(f"{text!r}: the share of train lies between 0 and 1")
        return cls(kind, part)  # type: ignore[arg-type]

    def masks(self, users: npt.NDArray[np.int64], times: npt.NDArray[np.float64] | None, seed: int) -> Iterator[Mask]:
        """Which rows are train: one mask, or one for each fold. Raises ValueError for a split by time without times."""
        if self.kind == "time":
            if times is None:
                raise ValueError("a split by time needs a column timestamp")
            yield times < np.quantile(times, self.part)
        elif self.kind == "stratified":
            yield _places(users, seed) < self.part
        else:
            folds = np.random.default_rng(seed).permutation(len(users)) % int(self.part)
            for fold in range(int(self.part)):
                yield folds != fold


def stratified_folds(groups: npt.NDArray[np.int64], folds: int, seed: int) -> npt.NDArray[np.int64]:
    """The fold of each row, from 0: each has the same share of each group, as far as whole rows allow."""
    return (_places(groups, seed) * folds).astype(np.int64)


def _places(users: npt.NDArray[np.int64], seed: int) -> npt.NDArray[np.float64]:
    """For each row its place among its user's rows in a random order, from 0 up to but not 1.

    Places lie in the middle of their n-th parts, so that a share of train is rounded to whole rows for each user.
    """
    order = np.lexsort((np.random.default_rng(seed).random(len(users)), users))
    sorted_users = users[order]
    starts = np.flatnonzero(np.r_[True, sorted_users[1:] != sorted_users[:-1]])
    counts = np.diff(np.r_[starts, len(users)])
    place = np.arange(len(users)) - np.repeat(starts, counts)
    places = np.empty(len(users))
    places[order] = (place + 0.5) / np.repeat(counts, counts)
    return places
