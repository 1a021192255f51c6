"""Metrics of ranked lists, with bootstrap intervals. Pure: lists and numpy in, numbers out.

Jarvelin and Kekalainen (2002) for nDCG with binary gain; the interval is the percentile bootstrap over users.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from scipy import stats

Item = TypeVar("Item")
_CHUNK = 4_000_000  # resampled values held at once: 32 MB


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over users and its 95 % interval. With no users there is no number: all None. Of a difference, `users` are
    those who tell, and `p` is the chance of such a mean, or a larger one, if there were none (one-sided, Student's t).
    """

    mean: float | None
    low: float | None
    high: float | None
    users: int = 0
    p: float | None = None

    @property
    def is_negative(self) -> bool:
        """Whether the whole interval lies below 0."""
        return self.high is not None and self.high < 0

    @property
    def is_positive(self) -> bool:
        """Whether the whole interval lies above 0."""
        return self.low is not None and self.low > 0

    @property
    def interval(self) -> list[float] | None:
        """[low, high], as JSON and tables keep it."""
        return None if self.low is None or self.high is None else [self.low, self.high]


def rounded(mean: float, low: float, high: float) -> Estimate:
    """An estimate of the six digits that are kept."""
    return Estimate(round(float(mean), 6), round(float(low), 6), round(float(high), 6))


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


def paired(differences: Sequence[float]) -> Estimate:
    """The mean of one difference per user, with the 95 % interval and the chance of Student's t, which hold for few
    users too; with one there is neither."""
    if not differences:
        return Estimate(None, None, None)
    sample = np.asarray(differences, dtype=np.float64)
    mean = round(float(sample.mean()), 6)
    if len(sample) == 1:
        return Estimate(mean, None, None, 1)
    if not sample.std():
        return Estimate(mean, mean, mean, len(sample), float(mean <= 0))
    free, error = len(sample) - 1, float(sample.std(ddof=1)) / math.sqrt(len(sample))
    wide = error * float(stats.t.ppf(0.975, free))
    p = float(stats.t.sf(sample.mean() / error, free))
    return replace(rounded(mean, mean - wide, mean + wide), users=len(sample), p=p)


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
    return rounded(sample.mean(), low, high)


def bootstrap_ratio(sums: Sequence[float], counts: Sequence[float], resamples: int = 1000, seed: int = 42) -> Estimate:
    """The mean over all that users have, from each user's sum and count; the interval is over users, as of `bootstrap`,
    `p` is that of their sums. None without counts."""
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
    return replace(rounded(above.sum() / below.sum(), low, high), users=len(below), p=paired(above.tolist()).p)
