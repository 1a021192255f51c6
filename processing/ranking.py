"""Suggestions for a visitor whom the batch has not seen, from what is known of items. Pure and without dependencies:
the web app calls it for each page.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

RECENCY = 0.8  # the weight of each older item of the history, relative to the next newer


def recommend_for_history(
    similar: Mapping[str, Sequence[tuple[str, float]]],
    history: Sequence[str],
    popular: Iterable[str],
    n: int,
) -> list[str]:
    """Up to `n` items: what is similar to the history (newest last), best first, filled up with popular ones.

    `similar`: item -> (item, score) pairs. Items of the history are left out; ties go by item id.
    """
    scores = score_history(similar, history)
    ranked = sorted(scores, key=lambda item: (-scores[item], item))[: max(n, 0)]
    return fill(ranked, popular, n, excluded=history)


def score_history(similar: Mapping[str, Sequence[tuple[str, float]]], history: Sequence[str]) -> dict[str, float]:
    """Item -> summed similarity to the history, newer items counting more; items of the history are left out.

    An item seen twice counts once, at its newest place.
    """
    seen = set(history)
    scores: dict[str, float] = {}
    for age, item in enumerate(dict.fromkeys(reversed(history))):
        for candidate, score in similar.get(item, ()):
            if candidate not in seen:
                scores[candidate] = scores.get(candidate, 0.0) + score * RECENCY**age
    return scores


def fill(ranked: Sequence[str], popular: Iterable[str], n: int, excluded: Iterable[str] = ()) -> list[str]:
    """The first `n` of `ranked`, then of `popular`, each item once and none of `excluded`."""
    unwanted = set(excluded)
    candidates = (item for source in (ranked, popular) for item in source if item not in unwanted)
    return list(dict.fromkeys(candidates))[: max(n, 0)]
