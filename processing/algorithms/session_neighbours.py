"""Next-item models of sessions: nearest sessions, a first-order Markov chain, and the two together. Pure Python.

VSKNN: Ludewig and Jannach, Evaluation of session-based recommendation algorithms (2018): neighbours share items with
the session, late items of which count more; items of a neighbour count more the later the last item that both have.

Sessions are sequences of items, which are integers, and come oldest first.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

LAST = 20  # items of a session that are looked at
_RARITY = 5.0  # how much more a rare item counts
_DECAY = 0.1  # lost by each step between the last common item and the session's end


class MarkovChain:
    """Scores an item by the share of times that it directly followed the session's last one."""

    def __init__(self, sessions: Sequence[Sequence[int]]) -> None:
        follows: dict[int, Counter[int]] = defaultdict(Counter)
        for session in sessions:
            for item, following in pairwise(session):
                follows[item][following] += 1
        self._shares = {item: _shares(counts) for item, counts in follows.items()}

    def scores(self, beginning: Sequence[int]) -> Mapping[int, float]:
        return self._shares.get(beginning[-1], {})


@dataclass
class NearestSessions:
    """VSKNN, with `chain` times the Markov chain's scores added.

    Of the `sample` newest sessions with each item, the `neighbours` most similar count; scores are shares of their sum.
    """

    sessions: Sequence[Sequence[int]]
    neighbours: int = 100
    sample: int = 1_000
    chain: float = 0.3
    _items: list[frozenset[int]] = field(init=False, repr=False)
    _with: dict[int, list[int]] = field(init=False, repr=False)  # item -> sessions, the newest first
    _rarity: dict[int, float] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._items = [frozenset(session) for session in self.sessions]
        self._with = defaultdict(list)
        for number in range(len(self.sessions) - 1, -1, -1):
            for item in self._items[number]:
                self._with[item].append(number)
        total = len(self.sessions)
        self._rarity = {item: 1 + _RARITY * math.log(total / len(some)) for item, some in self._with.items()}
        self._markov = MarkovChain(self.sessions if self.chain else [])

    def scores(self, beginning: Sequence[int]) -> Mapping[int, float]:
        scores = self._near(beginning[-LAST:])
        for item, score in self._markov.scores(beginning).items():
            scores[item] = scores.get(item, 0.0) + self.chain * score
        return scores

    def _near(self, seen: Sequence[int]) -> dict[int, float]:
        weight = {item: (place + 1) / len(seen) for place, item in enumerate(seen)}
        candidates = {number for item in weight for number in self._with.get(item, ())[: self.sample]}
        alike = {number: sum(weight[item] for item in self._items[number] & weight.keys()) for number in candidates}
        nearest = sorted(alike, key=lambda number: (-alike[number], -number))[: self.neighbours]
        scores: dict[int, float] = defaultdict(float)
        for number in nearest:
            items = self._items[number]
            steps = next(step for step, item in enumerate(reversed(seen)) if item in items)
            near = alike[number] * max(0.0, 1 - _DECAY * steps)
            for item in items:
                scores[item] += near * self._rarity[item]
        return _shares(scores)


def _shares(scores: Mapping[int, float]) -> dict[int, float]:
    whole = sum(scores.values())
    return {item: score / whole for item, score in scores.items()} if whole else {}
