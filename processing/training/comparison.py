"""The numbers of ranked lists: each contestant on the same users, with intervals, by segment. Pure.

recall, nDCG, MAP and MRR are means over users with bootstrap intervals. Coverage is the part of all known items that
any list shows. Novelty (Zhou et al. 2010) is the mean over what is shown of -log2 of the share of visitors who had met
the item, in bits. A difference is paired: of the same users, with the interval of Student's t.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from processing.training import metrics
from processing.training.metrics import Estimate, bootstrap, paired

K = 10
POPULAR = "popular"
METRICS: Mapping[str, Callable[[Sequence[str], Sequence[str], int], float]] = {
    "recall": metrics.recall_at_k,
    "ndcg": metrics.ndcg_at_k,
    "map": metrics.average_precision_at_k,
    "mrr": metrics.reciprocal_rank_at_k,
}


@dataclass(frozen=True, slots=True)
class User:
    """A user of the holdout: the relevant items, and the first K of each contestant. `new_items`: what the user met of
    items that nobody had met before, which no contestant can know."""

    visitor_id: str
    relevant: list[str]
    device: str
    is_new: bool
    lists: dict[str, list[str]]
    new_items: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Result:
    """One contestant in one segment. `coverage` and `novelty_bits` are None with nothing shown, `over_baseline` is the
    paired difference of nDCG to popularity."""

    contestant: str
    segment: str
    n_users: int
    estimates: dict[str, Estimate]
    over_baseline: Estimate
    coverage: float | None
    novelty_bits: float | None

    @property
    def beats_baseline(self) -> bool | None:
        """Whether the whole interval of the difference lies above 0; None with nobody to compare on."""
        return None if self.over_baseline.low is None else self.over_baseline.low > 0


def segments(users: Sequence[User]) -> dict[str, list[User]]:
    """`all`, then by `visitors` and by `device`, each that has users; a user is in one of each kind."""
    found: dict[str, list[User]] = {"all": list(users)}
    for user in users:
        found.setdefault(f"visitors={'new' if user.is_new else 'returning'}", []).append(user)
        found.setdefault(f"device={user.device}", []).append(user)
    return {name: found[name] for name in ("all", *sorted(found.keys() - {"all"}))}


def per_user(users: Sequence[User], contestant: str, metric: str) -> list[float]:
    """One value a user, in their order."""
    return [METRICS[metric](user.lists[contestant], user.relevant, K) for user in users]


def ndcg(users: Sequence[User], contestant: str) -> float | None:
    """The mean, None without users."""
    values = per_user(users, contestant, "ndcg")
    return round(sum(values) / len(values), 6) if values else None


def difference(users: Sequence[User], ours: str, theirs: str) -> Estimate:
    """Paired, of nDCG."""
    pairs = zip(per_user(users, ours, "ndcg"), per_user(users, theirs, "ndcg"), strict=True)
    return paired([our - their for our, their in pairs])


def compare(
    users: Sequence[User],
    contestants: Sequence[str],
    shares: Mapping[str, float],
    items: int,
    cold: Sequence[User] = (),
) -> list[Result]:
    """A result for each contestant and segment. `shares`: item -> the share of visitors who had met it; `items`: how
    many are known. `cold` users, of whom nothing was known, and items that were `new` are segments apart: they are not
    among `all`."""
    apart = {
        "visitors=cold": list(cold),
        "items=new": [replace(user, relevant=list(user.new_items)) for user in users if user.new_items],
    }
    return [
        Result(
            contestant,
            segment,
            len(some),
            {metric: bootstrap(per_user(some, contestant, metric)) for metric in METRICS},
            difference(some, contestant, POPULAR) if contestant != POPULAR else Estimate(None, None, None),
            *_variety([user.lists[contestant] for user in some], shares, items),
        )
        for contestant in contestants
        for segment, some in (segments(users) | {name: some for name, some in apart.items() if some}).items()
    ]


def _variety(
    lists: Sequence[Sequence[str]], shares: Mapping[str, float], items: int
) -> tuple[float | None, float | None]:
    shown = [item for ranked in lists for item in ranked]
    if not shown:
        return None, None
    bits = [-math.log2(shares[item]) for item in shown]
    return round(len(set(shown)) / items, 6), round(sum(bits) / len(bits), 6)


def row(result: Result, **more: Any) -> dict[str, Any]:
    """A row of `evaluations`, but for what `more` says of the contestant and the split."""
    numbers = {
        key: value
        for name, estimate in {**result.estimates, "ndcg_over_baseline": result.over_baseline}.items()
        for key, value in ((name, estimate.mean), (f"{name}_interval", estimate.interval))
    }
    return {
        "k": K,
        "segment": result.segment,
        "n_users": result.n_users,
        "coverage": result.coverage,
        "novelty_bits": result.novelty_bits,
        **numbers,
        **more,
    }
