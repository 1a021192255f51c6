"""Recommenders side by side on anybody's ratings: tuned inside the train part, measured on the test part.

Protocol. A user's test items are those of the test part that this user has not in the train part and that somebody has
there; users without any don't count. Candidates are all items that the user has not in the train part. Parameters are
chosen by nDCG@k of the same kind of split of the train part alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from processing import metrics
from processing.bench.files import Ratings
from processing.training.item_models import RECOMMENDERS, Met, Recommender, combinations, top
from processing.training.splits import Split

_USERS = 500  # scored at a time
Progress = Callable[[str], None]


@dataclass(frozen=True)
class Lists:
    """Users in ascending order, their best items (users x k), and what they met in the test part."""

    users: npt.NDArray[np.int64]
    ranked: npt.NDArray[np.int64]
    relevant: list[set[int]]


def run(
    parts: Sequence[tuple[Ratings, Ratings]], inner: Split, algorithms: Sequence[str], k: int, seed: int, tell: Progress
) -> dict[str, Any]:
    """Facts of each algorithm: metrics over the users of all (train, test) parts, and the parameters of each."""
    results = {}
    for name in algorithms:
        values: dict[str, list[float]] = {}
        shown: set[int] = set()
        surprise: list[float] = []
        chosen, known = [], 0
        for number, (train, test) in enumerate(parts):
            tell(f"{name}, part {number + 1} of {len(parts)}")
            parameters = tune(RECOMMENDERS[name], train, inner, k, seed)
            lists = evaluate(RECOMMENDERS[name], parameters, train, test, k)
            for metric, of_users in per_user(lists, k).items():
                values.setdefault(metric, []).extend(of_users)
            shown |= set(lists.ranked[lists.ranked >= 0].tolist())
            surprise += _surprise(lists, train)
            chosen.append(parameters)
            known = max(known, len(np.unique(train.items)))
        estimates = {metric: metrics.bootstrap(of_users) for metric, of_users in values.items()}
        results[name] = {
            **{metric: estimate.mean for metric, estimate in estimates.items()},
            **{f"{metric}_interval": estimate.interval for metric, estimate in estimates.items()},
            "coverage": round(len(shown) / known, 4) if known else None,
            "novelty_bits": round(float(np.mean(surprise)), 4) if surprise else None,
            "users": len(values["ndcg"]),
            "parameters": chosen,
        }
    return results


def tune(recommender: type[Recommender], train: Ratings, inner: Split, k: int, seed: int) -> dict[str, Any]:
    """The parameters with the best nDCG@k on a split of the train part; the first of equals."""
    choices = combinations(recommender)
    if len(choices) == 1:
        return choices[0]
    mask = next(inner.masks(train.users, train.times, seed))
    fit, held_out = train.part(mask), train.part(~mask)
    reached = [
        float(np.mean(per_user(evaluate(recommender, choice, fit, held_out, k), k)["ndcg"] or [0.0]))
        for choice in choices
    ]
    return choices[int(np.argmax(reached))]


def evaluate(
    recommender: type[Recommender], parameters: dict[str, Any], train: Ratings, test: Ratings, k: int
) -> Lists:
    """The lists of the users who count."""
    met = Met(train.users, train.items, train.values, train.times, len(train.item_ids))
    relevant = _relevant(train, test)
    users = np.array(sorted(relevant), dtype=np.int64)
    model = recommender(met, parameters)
    ranked = [top(model, met, some, k) for some in _chunks(users)]
    return Lists(users, np.concatenate(ranked) if ranked else np.empty((0, k), np.int64), [relevant[u] for u in users])


def per_user(lists: Lists, k: int) -> dict[str, list[float]]:
    """Metric -> one value a user, in the order of the users."""
    pairs = [([int(i) for i in row if i >= 0], items) for row, items in zip(lists.ranked, lists.relevant, strict=True)]
    functions = {
        "ndcg": metrics.ndcg_at_k,
        "recall": metrics.recall_at_k,
        "map": metrics.average_precision_at_k,
        "mrr": metrics.reciprocal_rank_at_k,
    }
    return {name: [function(row, items, k) for row, items in pairs] for name, function in functions.items()}


def _relevant(train: Ratings, test: Ratings) -> dict[int, set[int]]:
    known_users, known_items = set(train.users.tolist()), set(train.items.tolist())
    had = set(zip(train.users.tolist(), train.items.tolist(), strict=True))
    relevant: dict[int, set[int]] = {}
    for pair in zip(test.users.tolist(), test.items.tolist(), strict=True):
        if pair[0] in known_users and pair[1] in known_items and pair not in had:
            relevant.setdefault(pair[0], set()).add(pair[1])
    return relevant


def _surprise(lists: Lists, train: Ratings) -> list[float]:
    """-log2 of the share of users who had an item, for each item that is shown."""
    share = np.bincount(train.items, minlength=len(train.item_ids)) / max(1, len(np.unique(train.users)))
    shown = lists.ranked[lists.ranked >= 0]
    seen: list[float] = (-np.log2(share[shown], where=share[shown] > 0, out=np.zeros(len(shown)))).tolist()
    return seen


def _chunks(users: npt.NDArray[np.int64]) -> Iterator[npt.NDArray[np.int64]]:
    for start in range(0, len(users), _USERS):
        yield users[start : start + _USERS]
