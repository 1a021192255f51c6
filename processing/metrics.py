"""How good ranked lists are. Pure: lists and numpy in, numbers out.

Jarvelin and Kekalainen (2002) for nDCG with binary gain; the interval is the percentile bootstrap over users.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

Item = TypeVar("Item")
_CHUNK = 4_000_000  # resampled values held at once: 32 MB


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over users and its 95 % interval. With no users there is no number: all None."""

    mean: float | None
    low: float | None
    high: float | None

    @property
    def interval(self) -> list[float] | None:
        """[low, high], as JSON and tables keep it."""
        return None if self.low is None or self.high is None else [self.low, self.high]


def recall_at_k(ranked: Sequence[Item], relevant: Collection[Item], k: int) -> float:
    """The part of `relevant` (not empty) that is among the first `k`."""
    return len(set(ranked[:k]) & set(relevant)) / len(set(relevant))


def ndcg_at_k(ranked: Sequence[Item], relevant: Collection[Item], k: int) -> float:
    """Discounted gain of the first `k` over that of the best possible order, 0 to 1; `relevant` is not empty."""
    wanted = set(relevant)
    gain = sum(1 / math.log2(place + 2) for place, item in enumerate(ranked[:k]) if item in wanted)
    best = sum(1 / math.log2(place + 2) for place in range(min(k, len(wanted))))
    return gain / best


def average_precision_at_k(ranked: Sequence[Item], relevant: Collection[Item], k: int) -> float:
    """Mean over the relevant items, of which at most `k` can be found, of the precision where each was found."""
    wanted = set(relevant)
    hits = [place for place, item in enumerate(ranked[:k]) if item in wanted]
    return sum((found + 1) / (place + 1) for found, place in enumerate(hits)) / min(k, len(wanted))


def reciprocal_rank_at_k(ranked: Sequence[Item], relevant: Collection[Item], k: int) -> float:
    """1 / the place of the first relevant item, counted from 1; 0 without any among the first `k`."""
    wanted = set(relevant)
    return next((1 / (place + 1) for place, item in enumerate(ranked[:k]) if item in wanted), 0.0)


def bootstrap(values: Sequence[float], resamples: int = 1000, seed: int = 42) -> Estimate:
    """Mean of one value per user with its 95 % percentile interval; the same for the same values and seed."""
    if not values:
        return Estimate(None, None, None)
    sample = np.asarray(values, dtype=np.float64)
    random = np.random.default_rng(seed)
    step = max(1, _CHUNK // len(sample))
    means = np.concatenate(
        [
            sample[random.integers(0, len(sample), (min(step, resamples - done), len(sample)))].mean(axis=1)
            for done in range(0, resamples, step)
        ]
    )
    low, high = np.percentile(means, [2.5, 97.5])
    return Estimate(*(round(float(number), 6) for number in (sample.mean(), low, high)))


def bootstrap_ratio(sums: Sequence[float], counts: Sequence[float], resamples: int = 1000, seed: int = 42) -> Estimate:
    """The mean over all that users have, from each user's sum and count; the interval is over users, as of `bootstrap`.
    None without counts."""
    above, below = np.asarray(sums, dtype=np.float64), np.asarray(counts, dtype=np.float64)
    above, below = above[below > 0], below[below > 0]
    if not len(below):
        return Estimate(None, None, None)
    random = np.random.default_rng(seed)
    ratios = np.empty(resamples)
    for resample in range(resamples):
        drawn = random.integers(0, len(below), len(below))
        ratios[resample] = above[drawn].sum() / below[drawn].sum()
    low, high = np.percentile(ratios, [2.5, 97.5])
    return Estimate(*(round(float(number), 6) for number in (above.sum() / below.sum(), low, high)))
