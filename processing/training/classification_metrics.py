"""Metrics of probabilities of a positive label. Pure: numpy in, numbers out.

The area under the ROC curve counts ties as halves; that under the precision-recall curve is average precision, without
interpolation (Davis and Goadrich, 2006). Calibration: expected calibration error (Naeini et al., 2015) over bins of
equal counts; shift and slope of log odds by logistic regression (Cox 1958, Miller et al. 1993). Intervals are over
people, whose rows hang together: the percentile bootstrap; of shift and slope the cluster-robust one (Liang and Zeger,
1986).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from processing.training.metrics import Estimate, rounded

Vector = npt.NDArray[np.float64]
_LEAST = 1e-6  # bound of probabilities: log loss is infinite for a sure mistake
_NEWTON, _CLOSE, _FAR, _ALIKE = 50, 1e-8, 30.0, 1e-9  # steps at most, and when they end; bounds of log odds


@dataclass(frozen=True, slots=True)
class Bin:
    """Rows of like probability: the mean predicted, the share that was yes, how many."""

    predicted: float
    observed: float
    count: int


def evaluate(
    labels: npt.ArrayLike,
    probabilities: npt.ArrayLike,
    people: npt.ArrayLike | None = None,
    resamples: int = 1000,
    seed: int = 42,
) -> dict[str, Estimate]:
    """auc, pr_auc, log_loss, brier, shift and slope, and ece (expected calibration error) without interval, of labels 0
    and 1. `people`: whose each row is; without them, each is somebody else's.

    Raises ValueError unless both labels are there.
    """
    yes, surely = np.asarray(labels, dtype=np.float64), np.asarray(probabilities, dtype=np.float64)
    if not 0 < yes.sum() < len(yes):
        raise ValueError("rows of one label only")
    curves, losses, squares = _Curves(yes, surely), log_losses(yes, surely), (surely - yes) ** 2
    random, n = np.random.default_rng(seed), len(yes)
    _, whose = np.unique(np.arange(n) if people is None else np.asarray(people), return_inverse=True)
    count = int(whose.max()) + 1
    numbers = {"auc": curves.auc, "pr_auc": curves.pr_auc, "log_loss": _mean(losses), "brier": _mean(squares)}
    whole = np.ones(n)
    drawn: dict[str, list[float]] = {name: [] for name in numbers}
    for _ in range(resamples):
        weights = np.bincount(random.integers(0, count, count), minlength=count).astype(np.float64)[whose]
        if 0 < yes @ weights < weights.sum():
            for name, number in numbers.items():
                drawn[name].append(number(weights))
    estimates = {}
    for name, number in numbers.items():
        low, high = np.percentile(drawn[name], [2.5, 97.5])
        estimates[name] = rounded(number(whole), low, high)
    error = sum(abs(one.predicted - one.observed) * one.count for one in reliability(yes, surely)) / n
    shift, slope = calibration(yes, surely, whose)
    return estimates | {"shift": shift, "slope": slope, "ece": Estimate(round(error, 6), None, None)}


def calibration(
    labels: npt.ArrayLike, probabilities: npt.ArrayLike, people: npt.ArrayLike
) -> tuple[Estimate, Estimate]:
    """(shift, slope), 0 and 1 where probabilities are what comes; unknown where they are all alike, or nothing is.

    shift: log odds of what came beside those predicted, which are otherwise left as they are; slope: by how much log
    odds rise where the predicted ones rise by 1.
    """
    yes, surely = np.asarray(labels, dtype=np.float64), np.asarray(probabilities, dtype=np.float64)
    _, whose = np.unique(np.asarray(people), return_inverse=True)
    kept = np.clip(surely, _LEAST, 1 - _LEAST)
    odds, one = np.log(kept / (1 - kept)), np.ones(len(yes))
    shift = _logistic(yes, one[:, None], odds, whose)[0]
    if np.ptp(odds) < _ALIKE:
        return shift, Estimate(None, None, None)
    return shift, _logistic(yes, np.column_stack([one, odds]), 0 * odds, whose)[1]


def _logistic(yes: Vector, columns: Vector, offset: Vector, whose: npt.NDArray[np.int64]) -> list[Estimate]:
    """Coefficients of logistic regression by Newton's method, with intervals over people."""
    found, unknown = np.zeros(columns.shape[1]), [Estimate(None, None, None)] * columns.shape[1]
    for _ in range(_NEWTON):
        said = 1 / (1 + np.exp(-np.clip(offset + columns @ found, -_FAR, _FAR)))
        hessian = columns.T @ (columns * (said * (1 - said))[:, None])
        try:
            inverse = np.linalg.inv(hessian)
        except np.linalg.LinAlgError:
            return unknown
        step = inverse @ (columns.T @ (yes - said))
        found = found + np.clip(step, -1, 1)
        if np.abs(step).max() < _CLOSE:
            break
    else:
        return unknown
    scores = np.stack([np.bincount(whose, weights=column * (yes - said)) for column in columns.T], axis=1)
    errors = 1.96 * np.sqrt(np.diag(inverse @ (scores.T @ scores) @ inverse))
    return [rounded(value, value - error, value + error) for value, error in zip(found, errors, strict=True)]


def log_losses(labels: npt.ArrayLike, probabilities: npt.ArrayLike) -> Vector:
    """-log of the probability that was given to what came, for each row."""
    yes = np.asarray(labels, dtype=np.float64)
    kept = np.clip(np.asarray(probabilities, dtype=np.float64), _LEAST, 1 - _LEAST)
    losses: Vector = -(yes * np.log(kept) + (1 - yes) * np.log(1 - kept))
    return losses


def reliability(labels: npt.ArrayLike, probabilities: npt.ArrayLike, bins: int = 10) -> list[Bin]:
    """The reliability curve in bins of equal counts, by ascending probability; equal ones share a bin."""
    yes, surely = np.asarray(labels, dtype=np.float64), np.asarray(probabilities, dtype=np.float64)
    _, number, counts = np.unique(surely, return_inverse=True, return_counts=True)
    middle = np.cumsum(counts) - counts / 2
    bin_of_row = (middle / len(surely) * bins).astype(np.int64)[number]
    return [
        Bin(round(float(surely[rows].mean()), 6), round(float(yes[rows].mean()), 6), len(rows))
        for rows in (np.flatnonzero(bin_of_row == one) for one in np.unique(bin_of_row))
    ]


class _Curves:
    """Areas under both curves for rows that count `weights` times; sorted once for all weights."""

    def __init__(self, yes: Vector, scores: Vector) -> None:
        self._order = np.argsort(-scores, kind="stable")
        self._yes = yes[self._order]
        ranked = scores[self._order]
        self._ends = np.flatnonzero(np.r_[ranked[1:] != ranked[:-1], True])  # equal scores are one step of the curve

    def auc(self, weights: Vector) -> float:
        found, wrong = self._counts(weights)
        return float(np.trapezoid(np.r_[0.0, found], np.r_[0.0, wrong]) / (found[-1] * wrong[-1]))

    def pr_auc(self, weights: Vector) -> float:
        found, wrong = self._counts(weights)
        taken = found + wrong
        precision = np.divide(found, taken, out=np.zeros_like(found), where=taken > 0)
        return float(np.diff(found, prepend=0.0) @ precision / found[-1])

    def _counts(self, weights: Vector) -> tuple[Vector, Vector]:
        ranked = weights[self._order]
        return np.cumsum(ranked * self._yes)[self._ends], np.cumsum(ranked * (1 - self._yes))[self._ends]


def _mean(values: Vector) -> Callable[[Vector], float]:
    """The mean of rows that count `weights` times."""
    return lambda weights: float(values @ weights / weights.sum())
