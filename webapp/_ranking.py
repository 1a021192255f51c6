"""Temporary stand-in for processing.ranking, until that is there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def recommend_for_history(
    similar: Mapping[str, Sequence[tuple[str, float]]], history: Sequence[str], popular: Sequence[str], n: int
) -> list[str]:
    scores: dict[str, float] = {}
    for age, viewed in enumerate(reversed(history)):
        for item, score in similar.get(viewed, ()):
            scores[item] = scores.get(item, 0.0) + score * 0.8**age
    ranked = sorted((i for i in scores if i not in history), key=lambda i: (-scores[i], i))
    return [*ranked, *(i for i in popular if i not in scores and i not in history)][:n]
