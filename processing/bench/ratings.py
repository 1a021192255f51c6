"""Recommenders side by side on anybody's ratings: tuned inside the train part, measured on the test part.

Protocol. A user's test items are those of the test part that this user has not in the train part and that somebody has
there; users without any don't count. Candidates are all items that the user has not in the train part. Parameters are
chosen by nDCG@k of the same kind of split of the train part alone; those of an algorithm that predicts ratings by RMSE.

RMSE and MAE are over the test rows whose user and item the train part has both, the same rows for every algorithm; the
others, of which an algorithm could only say the mean, are counted as cold. Intervals are over users.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from processing import metrics
from processing.bench.files import Ratings
from processing.training.catalog import recommender
from processing.training.item_models import Met, Predictor, Recommender, combinations, top
from processing.training.splits import Split

_USERS = 500  # scored at a time
Progress = Callable[[str], None]


@dataclass(frozen=True)
class Lists:
    """Users in ascending order, their best items (users x k), and what they met in the test part."""

    users: npt.NDArray[np.int64]
    ranked: npt.NDArray[np.int64]
    relevant: list[set[int]]


@dataclass
class Seen:
    """What was seen of an algorithm in all parts: `values` of each metric and `errors` of each rating, by user."""

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
        met, split = _met(train), _inner(train, inner, seed)
        for name in algorithms:
            tell(f"{name}, part {number + 1} of {len(parts)}")
            _measure(seen[name], recommender(name), met, train, test, split, k)
    cold = sum(int((~_warm(train, test)).sum()) for train, test in parts)
    popular = seen.get("popularity")
    return {name: _facts(of, popular if name != "popularity" else None, cold) for name, of in seen.items()}


def _measure(
    seen: Seen,
    kind: type[Recommender],
    met: Met,
    train: Ratings,
    test: Ratings,
    inner: tuple[Met, Ratings, Ratings],
    k: int,
) -> None:
    parameters = tune(kind, inner, k)
    model = kind(met, parameters)
    lists = evaluate(model, met, train, test, k)
    for metric, of_users in per_user(lists, k).items():
        seen.values.setdefault(metric, []).extend(of_users)
    if isinstance(model, Predictor):
        seen.errors.append(_errors(model, train, test))
    seen.shown |= set(lists.ranked[lists.ranked >= 0].tolist())
    seen.surprise += _surprise(lists, train)
    seen.parameters.append(parameters)
    seen.known = max(seen.known, len(np.unique(train.items)))


def _facts(seen: Seen, popular: Seen | None, cold: int) -> dict[str, Any]:
    estimates = {metric: metrics.bootstrap(of_users) for metric, of_users in seen.values.items()}
    if popular is not None:
        for metric in ("ndcg", "recall"):
            pairs = zip(seen.values[metric], popular.values[metric], strict=True)
            estimates[f"{metric}_over_popularity"] = metrics.bootstrap([ours - theirs for ours, theirs in pairs])
    if seen.errors:
        estimates |= _accuracy(seen.errors)
    return {
        **{metric: estimate.mean for metric, estimate in estimates.items()},
        **{f"{metric}_interval": estimate.interval for metric, estimate in estimates.items()},
        "coverage": round(len(seen.shown) / seen.known, 4) if seen.known else None,
        "novelty_bits": round(float(np.mean(seen.surprise)), 4) if seen.surprise else None,
        "users": len(seen.values["ndcg"]),
        **({"predicted": sum(len(of) for _, of in seen.errors), "cold": cold} if seen.errors else {}),
        "parameters": seen.parameters,
    }


def tune(kind: type[Recommender], inner: tuple[Met, Ratings, Ratings], k: int) -> dict[str, Any]:
    """The parameters that do best on a split of the train part; the first of equals."""
    choices = combinations(kind)
    if len(choices) == 1:
        return choices[0]
    return choices[int(np.argmax([_merit(kind(inner[0], choice), *inner, k) for choice in choices]))]


def _merit(model: Recommender, met: Met, fit: Ratings, held_out: Ratings, k: int) -> float:
    if isinstance(model, Predictor):
        _, errors = _errors(model, fit, held_out)
        return -float(np.mean(errors**2)) if len(errors) else 0.0
    return float(np.mean(per_user(evaluate(model, met, fit, held_out, k), k)["ndcg"] or [0.0]))


def evaluate(model: Recommender, met: Met, train: Ratings, test: Ratings, k: int) -> Lists:
    """The lists of the users who count."""
    relevant = _relevant(train, test)
    users = np.array(sorted(relevant), dtype=np.int64)
    ranked = [top(model, met, some, k) for some in _chunks(users)]
    return Lists(users, np.concatenate(ranked) if ranked else np.empty((0, k), np.int64), [relevant[u] for u in users])


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
    roots = (None if of is None else round(of**0.5, 6) for of in (squared.mean, squared.low, squared.high))
    return {"rmse": metrics.Estimate(*roots), "mae": absolute}


def _met(ratings: Ratings) -> Met:
    return Met(ratings.users, ratings.items, ratings.values, ratings.times, len(ratings.item_ids))


def _inner(train: Ratings, split: Split, seed: int) -> tuple[Met, Ratings, Ratings]:
    """The split of a train part by which parameters are chosen: what to learn from, twice, and what to guess."""
    mask = next(split.masks(train.users, train.times, seed))
    fit = train.part(mask)
    return _met(fit), fit, train.part(~mask)


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


def _chunks(users: npt.NDArray[np.int64]) -> Iterator[npt.NDArray[np.int64]]:
    for start in range(0, len(users), _USERS):
        yield users[start : start + _USERS]
