"""Whether a challenger takes the champion's place. Pure: numbers in, a decision that explains itself out.

It has to be better than the champion on the same users of the same holdout, and not by chance: who betters a champion
is asked once a day, and by Student's t an equal passes with a chance of 0.05 in 90 days, spread evenly over the
questions (Bonferroni), whatever is tried meanwhile. Its lists for some visitors have to make sense. The data must not
have drifted since the champion learnt from them: the population stability index of each distribution stays below a
threshold, unless it lies within what chance gives (Yurdakul 2018: with equal distributions PSI / (1/n + 1/m) follows a
chi-squared distribution of bins - 1 degrees of freedom; n and m count visitors, whose values hang together).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from scipy import stats

from processing.training.metrics import Estimate

LEAST_USERS = 20  # fewer tell too little
_FALSE = 0.01  # how often chance alone is taken for drift, of all distributions together
_LEAST = 1e-4  # in place of an empty bin's share, for which the index is not defined
ALPHA, DAYS = 0.05, 90  # how often a champion may lose its place to an equal within so many days
_LEVEL = ALPHA / DAYS  # of one question, since one is asked a day
_SHIFT, _SLOPE = math.log(1.25), 1.5  # what is tolerated: odds a quarter too high or low; too bold or timid by half


@dataclass(frozen=True, slots=True)
class Criterion:
    """One question, its answer, and why."""

    name: str
    passed: bool
    detail: str


@dataclass(frozen=True, slots=True)
class Decision:
    """Promoted when all criteria are met. `asked`: the day on which the champion was compared with another recipe, as
    its cut has it (ISO 8601, UTC); None where it was not."""

    criteria: tuple[Criterion, ...]
    asked: str | None = None

    @property
    def promoted(self) -> bool:
        return all(one.passed for one in self.criteria)

    def to_dict(self) -> dict[str, Any]:
        checks = [asdict(one) for one in self.criteria]
        return {"promoted": self.promoted, "checks": checks, **({"asked": self.asked} if self.asked else {})}


@dataclass(frozen=True, slots=True)
class Smoke:
    """Counts over the lists of some visitors, filled up with popular items as they are shown: lists asked for, lists
    that are not empty, lists with items of the model, and items that must not be in them."""

    visitors: int
    with_lists: int
    learned: int
    seen: int
    not_finite: int
    repeated: int


@dataclass(frozen=True, slots=True)
class Histogram:
    """Counts of `n` values by bin; an edge belongs to the bin below it. `visitors`: how many they are of, None where
    they are of none."""

    edges: tuple[float, ...]
    counts: tuple[int, ...]
    visitors: int | None = None

    @property
    def n(self) -> int:
        return sum(self.counts)

    @property
    def independent(self) -> int:
        """How many of the values hang together with no other, at least."""
        return self.n if self.visitors is None else min(self.n, self.visitors)


@dataclass(frozen=True, slots=True)
class Window:
    """Distributions of the newest days, and of as many days before them; {} without any data."""

    now: Mapping[str, Histogram]
    preceding: Mapping[str, Histogram]


def better(
    difference: Estimate,
    over_baseline: Estimate,
    champion: str | None,
    same_recipe: bool,
    measure: str = "nDCG@10",
    baseline: str = "popularity",
    asked: str | None = None,
) -> Criterion:
    """`difference`: of the measure, challenger over champion, where there is one with another recipe. None may be worse
    than the baseline beyond noise, however much better it is than its champion. `asked`: the version for which this
    champion was asked about today."""
    over = f"over {baseline} {_told(over_baseline)}"
    sound = not over_baseline.is_negative
    if champion is None:
        return Criterion("better", sound, f"the first champion: nothing to beat; {over}")
    if same_recipe:
        return Criterion("better", sound, f"the recipe of {champion}, on newer data; {over}")
    told = f"{measure} over {champion} {_told(difference)}"
    if asked is not None:
        return Criterion("better", False, f"{told}; {asked} was compared with it today, ask again tomorrow")
    sure = difference.p is not None and difference.p <= _LEVEL
    told += f", p {difference.p:.2g} of {_LEVEL:.2g} a day" if difference.p is not None else ""
    if difference.users < LEAST_USERS:
        told += f"; {difference.users} users are too few to tell, {LEAST_USERS} are not"
    enough = difference.users >= LEAST_USERS
    return Criterion("better", sound and sure and enough, told if sound else f"{told}, but {over}")


def ordered(final: Estimate, shown: Estimate, users: int, lists: int) -> Criterion:
    """Whether a new order of lists is worth more than the old one. `final`: the difference of nDCG@10 on what `users`
    met afterwards; `shown`: that on the clicks of so many impressions' `lists`. One has to lie above 0 beyond noise, of
    no fewer than LEAST_USERS, and neither below."""
    gains = [one.is_positive and count >= LEAST_USERS for one, count in ((final, users), (shown, lists))]
    told = f"nDCG@10 over not reordered {_told(final)} of {users:,} users, {_told(shown)} of {lists:,} lists shown"
    return Criterion("ordered", any(gains) and not final.is_negative and not shown.is_negative, told)


def not_taken_back(taken_back: bool) -> Criterion:
    """`taken_back`: whether somebody rolled this very recipe back, and nobody has promoted it since."""
    told = "rolled back: `clickstream models promote` brings it back" if taken_back else "not rolled back"
    return Criterion("rollback", not taken_back, f"the recipe was {told}")


def informed(saved: Estimate, baseline: str) -> Criterion:
    """`saved`: how much log loss the challenger saves an example, beside what is known without a model."""
    return Criterion(
        "informed", saved.low is not None and saved.low > 0, f"log loss saved over {baseline} {_told(saved)}"
    )


def calibrated(shift: Estimate, slope: Estimate) -> Criterion:
    """Whether probabilities are what comes, beside the base rate: 0 and 1 are perfect. `shift`: log odds of what came
    over those predicted; `slope`: how much log odds rise as the predicted ones rise by 1. Either may lie outside of
    what is tolerated by noise alone."""
    passed = _near(shift, 0, -_SHIFT, _SHIFT) and _near(slope, 1, 1 / _SLOPE, _SLOPE)
    return Criterion("calibrated", passed, f"log odds shifted by {_told(shift)}, slope {_told(slope)}")


def _near(found: Estimate, ideal: float, low: float, high: float) -> bool:
    if found.mean is None or found.low is None or found.high is None:
        return False
    return low <= found.mean <= high or found.low <= ideal <= found.high


def varied(lowest: float | None, highest: float | None) -> Criterion:
    """The range of the probabilities that a model gives: all alike, or none, would be no order."""
    finite = lowest is not None and highest is not None and math.isfinite(lowest) and math.isfinite(highest)
    told = f"probabilities from {lowest:.4g} to {highest:.4g}" if finite else "not all probabilities are numbers"
    return Criterion("smoke", finite and 0 <= (lowest or 0) < (highest or 0) <= 1, told)


def smoke(found: Smoke) -> Criterion:
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
    return Criterion(
        "smoke",
        not wrong,
        "; ".join(wrong) or f"lists of {found.visitors} visitors make sense, {found.learned} have learned items",
    )


def drift(before: Mapping[str, Histogram], window: Window, threshold: float) -> Criterion:
    """`before`: what the champion learnt from, {} for the first one; `window` has the same bins.

    What has changed since then, but not since the preceding window, is the new normal: somebody had that long to see
    to it, and a champion that knows it is better than none.
    """
    if not before:
        return Criterion("drift", True, "the first champion: nothing to compare with")
    indexes = {name: _index(old, _of(window.now, name, old)) for name, old in before.items()}
    told = ", ".join(f"{name} {index:.3f}" for name, index in indexes.items())
    drifted = [name for name, old in before.items() if _drifted(old, _of(window.now, name, old), threshold, before)]
    recent = [
        name
        for name in drifted
        if not (then := _of(window.preceding, name, before[name])).n
        or _drifted(then, _of(window.now, name, then), threshold, before)
    ]
    if recent:
        verdict = f"{', '.join(recent)} beyond {threshold:g} and chance"
    elif drifted:
        verdict = f"{', '.join(drifted)} changed, and stayed so for a window: the new normal"
    else:
        verdict = "none beyond its bound"
    return Criterion("drift", not recent, f"PSI: {told}; {verdict}")


def _of(window: Mapping[str, Histogram], name: str, like: Histogram) -> Histogram:
    return window.get(name, Histogram(like.edges, ()))


def _drifted(before: Histogram, now: Histogram, threshold: float, all_: Mapping[str, Histogram]) -> bool:
    return _index(before, now) > max(threshold, _by_chance(before, now, _FALSE / len(all_)))


def _index(before: Histogram, now: Histogram) -> float:
    """The index of what so many visitors say, with half a visitor more in each bin: one that is empty by chance would
    weigh more than all others."""
    if not before.n or not now.n:
        return psi(before.counts, now.counts)
    bins = range(len(before.counts))
    return psi(*([one.counts[at] / one.n * one.independent + 0.5 for at in bins] for one in (before, now)))


def psi(before: Sequence[float], now: Sequence[float]) -> float:
    """The population stability index of two histograms with the same bins, 0 for equal shares."""
    if not sum(before) or not sum(now):
        return 0.0 if sum(before) == sum(now) else math.inf
    pairs = zip(_shares(before), _shares(now), strict=True)
    return sum((new - old) * math.log(new / old) for old, new in pairs)


def _shares(counts: Sequence[float]) -> list[float]:
    return [max(count / sum(counts), _LEAST) for count in counts]


def _by_chance(before: Histogram, now: Histogram, level: float) -> float:
    """The index that equal distributions exceed in `level` of all cases."""
    free = len(before.counts) - 1
    if free < 1 or not before.independent or not now.independent:
        return 0.0
    return float(stats.chi2.ppf(1 - level, free)) * (1 / before.independent + 1 / now.independent)


def _told(estimate: Estimate) -> str:
    if estimate.mean is None:
        return "unknown: nobody to compare on"
    if estimate.low is None or estimate.high is None:
        return f"{estimate.mean:+.4f} of a single user"
    return f"{estimate.mean:+.4f} [{estimate.low:+.4f}, {estimate.high:+.4f}]"
