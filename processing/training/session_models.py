"""What comes next in a session: popularity, a first-order Markov chain, nearest sessions, and a blend. Pure Python.

VSKNN: Ludewig and Jannach, Evaluation of session-based recommendation algorithms (2018): neighbours share items with
the session, late items of which count more; items of a neighbour count more the later the last item that both have.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Protocol

NEIGHBOURS, SAMPLE = 100, 1_000  # of so many recent sessions with an item, the most similar ones
_LAST = 20  # items of a session that are looked at
_RARITY = 5.0  # how much more a rare item counts
_DECAY = 0.1  # lost by each step between the last common item and the session's end


class NextItem(Protocol):
    """Learns from sessions, oldest first; then scores the items that may follow a beginning."""

    def scores(self, beginning: Sequence[int]) -> Mapping[int, float]:
        """Item -> score, higher is likelier; `beginning` has an item at least."""


Learner = Callable[[Sequence[Sequence[int]]], NextItem]


class Popularity:
    """How often an item is there."""

    def __init__(self, sessions: Sequence[Sequence[int]]) -> None:
        self.counts = Counter(item for session in sessions for item in session)
        self._best = dict(self.counts.most_common(1_000))

    def scores(self, beginning: Sequence[int]) -> Mapping[int, float]:
        return self._best


class Markov:
    """How often an item directly followed the last one, as a share."""

    def __init__(self, sessions: Sequence[Sequence[int]]) -> None:
        follows: dict[int, Counter[int]] = defaultdict(Counter)
        for session in sessions:
            for item, following in pairwise(session):
                follows[item][following] += 1
        self._shares = {item: _shares(counts) for item, counts in follows.items()}

    def scores(self, beginning: Sequence[int]) -> Mapping[int, float]:
        return self._shares.get(beginning[-1], {})


class Vsknn:
    """Items of the nearest sessions, each as a share of all scores."""

    def __init__(self, sessions: Sequence[Sequence[int]]) -> None:
        self._sessions = [frozenset(session) for session in sessions]
        self._of: dict[int, list[int]] = defaultdict(list)
        for number in range(len(sessions) - 1, -1, -1):  # the newest first
            for item in self._sessions[number]:
                self._of[item].append(number)
        self._rarity = {i: 1 + _RARITY * math.log(len(sessions) / len(of)) for i, of in self._of.items()}

    def scores(self, beginning: Sequence[int]) -> Mapping[int, float]:
        seen = beginning[-_LAST:]
        weight = {item: (place + 1) / len(seen) for place, item in enumerate(seen)}
        candidates = {number for item in weight for number in self._of.get(item, ())[:SAMPLE]}
        alike = {number: sum(weight[item] for item in self._sessions[number] & weight.keys()) for number in candidates}
        nearest = sorted(alike, key=lambda number: (-alike[number], -number))[:NEIGHBOURS]
        scores: dict[int, float] = defaultdict(float)
        for number in nearest:
            items = self._sessions[number]
            steps = next(step for step, item in enumerate(reversed(seen)) if item in items)
            near = alike[number] * max(0.0, 1 - _DECAY * steps)
            for item in items:
                scores[item] += near * self._rarity[item]
        return _shares(scores)


class Blend:
    """VSKNN with a `share` of the Markov chain's scores added."""

    def __init__(self, sessions: Sequence[Sequence[int]], share: float = 0.3) -> None:
        self._near, self._chain, self._share = Vsknn(sessions), Markov(sessions), share

    def scores(self, beginning: Sequence[int]) -> Mapping[int, float]:
        scores = dict(self._near.scores(beginning))
        for item, score in self._chain.scores(beginning).items():
            scores[item] = scores.get(item, 0.0) + self._share * score
        return scores


def top(scores: Mapping[int, float], popular: Sequence[int], n: int) -> list[int]:
    """The best `n`, filled up with popular ones; ties go by the item's index."""
    best = sorted(scores, key=lambda item: (-scores[item], item))[:n]
    return list(dict.fromkeys([*best, *popular]))[:n]


def _shares(scores: Mapping[int, float]) -> dict[int, float]:
    whole = sum(scores.values())
    return {item: score / whole for item, score in scores.items()} if whole else {}
