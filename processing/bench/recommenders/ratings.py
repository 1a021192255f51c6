"""Recommenders side by side on anybody's ratings: tuned inside the train part, measured on the test part.

Production's recommenders are fitted, and asked for lists, by the very code of the jobs.

Protocol. A user's test items are those of the test part that this user has not in the train part and that somebody has
there; users without any don't count. Candidates are all items that the user has not in the train part. Parameters are
chosen by nDCG@k of the same kind of split of the train part alone, of up to 100 users; those of an algorithm that
predicts ratings by RMSE. One parameter after the other is varied, and the best value stays.

RMSE and MAE are over the test rows whose user and item the train part has both, the same rows for every algorithm; the
others, of which an algorithm could only say the mean, are counted as cold. Intervals are over users.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from processing.bench.files import Ratings
from processing.bench.recommenders.catalog import contestant
from processing.bench.recommenders.interface import Contestant, Fitted, Predictor
from processing.bench.splits import Split
from processing.training import metrics

_TUNED_ON = 100  # users
Progress = Callable[[str], None]


@dataclass(frozen=True)
class Lists:
    """Users in ascending order, their best items (users x k), and what they met in the test part."""

    users: npt.NDArray[np.int64]
    ranked: npt.NDArray[np.int64]
    relevant: list[set[int]]


@dataclass
class Seen:
    """Results of an algorithm over all parts: the `values` of each metric, one for each of `users`, who may be in
    several parts, and the `errors` of each rating, by user."""

    users: list[int] = field(default_factory=list)
    values: dict[str, list[float]] = field(default_factory=dict)
    errors: list[tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]] = field(default_factory=list)
    shown: set[int] = field(default_factory=set)
    surprise: list[float] = field(default_factory=list)
    parameters: list[dict[str, Any]] = field(default_factory=list)
    known: int = 0


def run(
    parts: Sequence[tuple[Ratings, Ratings]], inner: Split, algorithms: Sequence[str], k: int, seed: int, tell: Progress
) -> dict[str, Any]:
    """Facts of each algorithm: metrics over the users of all (train, test) parts, and the parameters of each."""
    seen = {name: Seen() for name in algorithms}
    for number, (train, test) in enumerate(parts):
        mask = next(inner.masks(train.users, train.times, seed))
        split = train.part(mask), train.part(~mask)
        for name in algorithms:
            tell(f"{name}, part {number + 1} of {len(parts)}")
            _measure(seen[name], contestant(name), train, test, split, k)
    cold = sum(int((~_warm(train, test)).sum()) for train, test in parts)
    popular = seen.get("popularity")
    return {name: _facts(of, popular if name != "popularity" else None, cold) for name, of in seen.items()}


def _measure(
    seen: Seen,
    kind: Contestant,
    train: Ratings,
    test: Ratings,
    inner: tuple[Ratings, Ratings],
    k: int,
) -> None:
    parameters = tune(kind, *inner, k)
    model = kind.fit(train, parameters)
    lists = evaluate(model, train, test, k)
    seen.users += lists.users.tolist()
    for metric, of_users in per_user(lists, k).items():
        seen.values.setdefault(metric, []).extend(of_users)
    if isinstance(model, Predictor):
        seen.errors.append(_errors(model, train, test))
    seen.shown |= set(lists.ranked[lists.ranked >= 0].tolist())
    seen.surprise += _surprise(lists, train)
    seen.parameters.append(parameters)
    seen.known = max(seen.known, len(np.unique(train.items)))


def _facts(seen: Seen, popular: Seen | None, cold: int) -> dict[str, Any]:
    estimates = {metric: _by_user(seen.users, of_users) for metric, of_users in seen.values.items()}
    if popular is not None:
        for metric in ("ndcg", "recall"):
            pairs = zip(seen.values[metric], popular.values[metric], strict=True)
            estimates[f"{metric}_over_popularity"] = _by_user(seen.users, [ours - theirs for ours, theirs in pairs])
    if seen.errors:
        estimates |= _accuracy(seen.errors)
    return {
        **{metric: estimate.mean for metric, estimate in estimates.items()},
        **{f"{metric}_interval": estimate.interval for metric, estimate in estimates.items()},
        "coverage": round(len(seen.shown) / seen.known, 4) if seen.known else None,
        "novelty_bits": round(float(np.mean(seen.surprise)), 4) if seen.surprise else None,
        "users": len(set(seen.users)),
        **({"predicted": sum(len(of) for _, of in seen.errors), "cold": cold} if seen.errors else {}),
        "parameters": seen.parameters,
    }


def _by_user(users: Sequence[int], values: Sequence[float]) -> metrics.Estimate:
    """The mean of all values; the interval is over users, of each of whom there may be one a part."""
    return metrics.bootstrap_ratio(np.bincount(users, weights=values).tolist(), np.bincount(users).tolist())


def tune(kind: Contestant, train: Ratings, held_out: Ratings, k: int) -> dict[str, Any]:
    """The parameters that do best on `held_out`: one parameter after the other, the first of equal values."""
    chosen = {name: values[0] for name, values in kind.grid.items()}
    best = _merit(kind.fit(train, chosen), train, held_out, k) if any(map(_others, kind.grid.values())) else 0.0
    for name, values in kind.grid.items():
        for value in _others(values):
            tried = {**chosen, name: value}
            if (merit := _merit(kind.fit(train, tried), train, held_out, k)) > best:
                best, chosen = merit, tried
    return chosen


def _others(values: Sequence[Any]) -> Sequence[Any]:
    """All but the first."""
    return values[1:]


def _merit(model: Fitted, train: Ratings, held_out: Ratings, k: int) -> float:
    if isinstance(model, Predictor):
        _, errors = _errors(model, train, held_out)
        return -float(np.mean(errors**2)) if len(errors) else 0.0
    return float(np.mean(per_user(evaluate(model, train, held_out, k, _TUNED_ON), k)["ndcg"] or [0.0]))


def evaluate(model: Fitted, train: Ratings, test: Ratings, k: int, at_most: int | None = None) -> Lists:
    """The lists of the users who count, or of `at_most` so many of them."""
    relevant = _relevant(train, test)
    users = np.array(sorted(relevant), dtype=np.int64)
    users = users[:: max(1, -(-len(users) // at_most))] if at_most else users
    return Lists(users, model.lists(users, k), [relevant[user] for user in users.tolist()])


def _errors(model: Predictor, train: Ratings, test: Ratings) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Predicted less given, of the rows that are not cold; and whose they are."""
    warm = test.part(_warm(train, test))
    return warm.users, model.predict(warm.users, warm.items) - warm.values


def _accuracy(errors: list[tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]]) -> dict[str, metrics.Estimate]:
    users, off = (np.concatenate(columns) for columns in zip(*errors, strict=True))
    counts = np.bincount(users).tolist()
    squared = metrics.bootstrap_ratio(np.bincount(users, weights=off**2).tolist(), counts)
    absolute = metrics.bootstrap_ratio(np.bincount(users, weights=np.abs(off)).tolist(), counts)
    # A quantile's root is the root's quantile.
    mean, low, high = (None if of is None else round(of**0.5, 6) for of in (squared.mean, squared.low, squared.high))
    return {"rmse": metrics.Estimate(mean, low, high), "mae": absolute}


def _warm(train: Ratings, test: Ratings) -> npt.NDArray[np.bool_]:
    """The rows of the test part whose user and item are in the train part."""
    warm: npt.NDArray[np.bool_] = np.isin(test.users, train.users) & np.isin(test.items, train.items)
    return warm


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
