"""Whether a challenger takes the champion's place. Pure: numbers in, a decision that explains itself out.

It has to be better than the champion beyond noise, on the same users of the same holdout; its lists for some visitors
have to make sense; and the data must not have drifted since the champion learnt from them: the population stability
index of each distribution stays below a threshold, unless it lies within what chance gives (Yurdakul 2018: with equal
distributions PSI / (1/n + 1/m) follows a chi-squared distribution of bins - 1 degrees of freedom).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from processing.metrics import Estimate

_LEAST = 1e-4  # the share of an empty bin: the index has none for 0
_MISCALIBRATED = 0.05  # the error beyond which probabilities are none
_Z = 1.645  # of a normal distribution 95 % lie below


@dataclass(frozen=True, slots=True)
class Check:
    """One question, its answer, and why."""

    name: str
    passed: bool
    detail: str


@dataclass(frozen=True, slots=True)
class Decision:
    """Promoted when all checks are passed."""

    checks: tuple[Check, ...]

    @property
    def promoted(self) -> bool:
        return all(check.passed for check in self.checks)

    def to_dict(self) -> dict[str, Any]:
        return {"promoted": self.promoted, "checks": [asdict(check) for check in self.checks]}


@dataclass(frozen=True, slots=True)
class Smoke:
    """Of the lists of some visitors, filled up with popular items as they are shown: how many were asked for, how many
    are not empty and have something of the model, and what must not be in them."""

    visitors: int
    with_lists: int
    learned: int
    seen: int
    not_finite: int
    repeated: int


@dataclass(frozen=True, slots=True)
class Histogram:
    """How many of `n` values lie in each bin; `edges` between them, each belongs to the bin below it."""

    edges: tuple[float, ...]
    counts: tuple[int, ...]

    @property
    def n(self) -> int:
        return sum(self.counts)


def better(
    difference: Estimate,
    over_baseline: Estimate,
    champion: str | None,
    same_recipe: bool,
    measure: str = "nDCG@10",
    baseline: str = "popularity",
) -> Check:
    """`difference`: of the measure, challenger over champion; the first champion has only the baseline beside it, than
    which it must not be worse beyond noise."""
    if champion is None:
        passed = over_baseline.high is None or over_baseline.high >= 0
        return Check("better", passed, f"the first champion: nothing to beat; over {baseline} {_told(over_baseline)}")
    if same_recipe:
        return Check("better", True, f"the recipe of {champion}, on newer data; over {baseline} {_told(over_baseline)}")
    passed = difference.low is not None and difference.low > 0
    return Check("better", passed, f"{measure} over {champion} {_told(difference)}")


def informed(saved: Estimate, baseline: str) -> Check:
    """`saved`: how much log loss the challenger saves an example, beside what is known without a model."""
    return Check("informed", saved.low is not None and saved.low > 0, f"log loss saved over {baseline} {_told(saved)}")


def calibrated(error: float | None) -> Check:
    """`error`: the expected calibration error, None where it is unknown."""
    told = "unknown" if error is None else f"{error:.4f}"
    return Check("calibrated", error is not None and error <= _MISCALIBRATED, f"calibration error {told}")


def varied(lowest: float | None, highest: float | None) -> Check:
    """The range of the probabilities that a model gives: all alike, or none, would be no order."""
    finite = lowest is not None and highest is not None and math.isfinite(lowest) and math.isfinite(highest)
    told = f"probabilities from {lowest:.4g} to {highest:.4g}" if finite else "not all probabilities are numbers"
    return Check("smoke", finite and 0 <= (lowest or 0) < (highest or 0) <= 1, told)


def smoke(found: Smoke) -> Check:
    """Each visitor has a list, some have items of the model, and none has an item that its visitor met, an item twice,
    or a score that is no number."""
    problems = {
        "no visitors to score": not found.visitors,
        f"{found.visitors - found.with_lists} of {found.visitors} lists are empty": found.with_lists < found.visitors,
        "nothing in them is of the model": found.visitors and not found.learned,
        f"{found.seen} items were met before": found.seen,
        f"{found.not_finite} scores are no numbers": found.not_finite,
        f"{found.repeated} items are there twice": found.repeated,
    }
    wrong = [problem for problem, there in problems.items() if there]
    return Check(
        "smoke",
        not wrong,
        "; ".join(wrong) or f"lists of {found.visitors} visitors make sense, {found.learned} have learned items",
    )


def drift(before: Mapping[str, Histogram], now: Mapping[str, Histogram], threshold: float) -> Check:
    """`before`: what the champion learnt from, {} for the first one; `now` has the same bins, {} without any data."""
    if not before:
        return Check("drift", True, "the first champion: nothing to compare with")
    pairs = {name: (histogram, now.get(name, Histogram(histogram.edges, ()))) for name, histogram in before.items()}
    indexes = {name: psi(old.counts, new.counts) for name, (old, new) in pairs.items()}
    told = ", ".join(f"{name} {index:.3f}" for name, index in indexes.items())
    drifted = [name for name, pair in pairs.items() if indexes[name] > max(threshold, _by_chance(*pair))]
    verdict = f"{', '.join(drifted)} beyond {threshold:g} and chance" if drifted else "none beyond its bound"
    return Check("drift", not drifted, f"PSI: {told}; {verdict}")


def psi(before: Sequence[int], now: Sequence[int]) -> float:
    """The population stability index of two histograms with the same bins, 0 for equal shares."""
    if not sum(before) or not sum(now):
        return 0.0 if sum(before) == sum(now) else math.inf
    pairs = zip(_shares(before), _shares(now), strict=True)
    return sum((new - old) * math.log(new / old) for old, new in pairs)


def _shares(counts: Sequence[int]) -> list[float]:
    return [max(count / sum(counts), _LEAST) for count in counts]


def _by_chance(before: Histogram, now: Histogram) -> float:
    """The index that equal distributions stay below 95 times of 100; chi-squared by Wilson and Hilferty (1931)."""
    free = len(before.counts) - 1
    if not free or not before.n or not now.n:
        return 0.0
    chi_squared = free * (1 - 2 / (9 * free) + _Z * math.sqrt(2 / (9 * free))) ** 3
    return chi_squared * (1 / before.n + 1 / now.n)


def _told(estimate: Estimate) -> str:
    if estimate.mean is None:
        return "unknown: nobody to compare on"
    return f"{estimate.mean:+.4f} [{estimate.low:+.4f}, {estimate.high:+.4f}]"
