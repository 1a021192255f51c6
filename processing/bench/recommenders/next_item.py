"""Next-item models side by side on anybody's sessions.

Protocol. For each test session and each of its items but the first, the items before it are the beginning and it is
the one right answer; answers that no train session has are left out, for all models alike. Means are over predictions,
their intervals over sessions, by bootstrap; so are differences from the baselines, on the same predictions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from processing.bench.files import Sessions
from processing.bench.recommenders.baselines import PopularItems
from processing.bench.recommenders.catalog import next_item
from processing.training.metrics import bootstrap_ratio

Progress = Callable[[str], None]
BASELINES = ("popularity", "markov")
_METRICS: dict[str, Callable[[int], float]] = {"recall": bool, "mrr": lambda rank: 1 / rank if rank else 0.0}


def run(
    train: Sessions, test: Sessions, algorithms: Sequence[str], k: int, seed: int, tell: Progress
) -> dict[str, Any]:
    """Recall@k and MRR@k of each algorithm, and how many predictions they are of; `seed` is that of the bootstrap."""
    known = PopularItems(train.items).counts
    popular = [item for item, _ in known.most_common(k)]
    ranks: dict[str, list[list[int]]] = {}
    for name in algorithms:
        tell(name)
        model = next_item(name, train.items)
        of_sessions = [
            [
                _rank(top(model.scores(items[:at]), popular, k), items[at])
                for at in range(1, len(items))
                if items[at] in known
            ]
            for items in test.items
        ]
        ranks[name] = [of for of in of_sessions if of]
    return {
        name: _numbers(of, seed)
        | _differences(of, {other: ranks[other] for other in BASELINES if other in ranks.keys() - {name}}, seed)
        for name, of in ranks.items()
    }


def top(scores: Mapping[int, float], popular: Sequence[int], n: int) -> list[int]:
    """The best `n`, filled up with popular ones; ties go by the item's index."""
    best = sorted(scores, key=lambda item: (-scores[item], item))[:n]
    return list(dict.fromkeys([*best, *popular]))[:n]


def _rank(ranked: list[int], answer: int) -> int:
    """The answer's place from 1 on; 0 when it is not there."""
    return ranked.index(answer) + 1 if answer in ranked else 0


def _numbers(sessions: list[list[int]], seed: int) -> dict[str, Any]:
    """Metrics of the ranks in each session. A session's weight is the number of its predictions."""
    counts = [len(ranks) for ranks in sessions]
    facts: dict[str, Any] = {"predictions": sum(counts), "sessions": len(sessions)}
    for metric, value in _METRICS.items():
        facts |= _estimate(metric, [sum(map(value, ranks)) for ranks in sessions], counts, seed)
    return facts


def _differences(sessions: list[list[int]], baselines: Mapping[str, list[list[int]]], seed: int) -> dict[str, Any]:
    """Differences of each metric from that of each baseline."""
    facts: dict[str, Any] = {}
    counts = [len(ranks) for ranks in sessions]
    for name, others in baselines.items():
        for metric, value in _METRICS.items():
            above = [
                sum(map(value, ours)) - sum(map(value, theirs)) for ours, theirs in zip(sessions, others, strict=True)
            ]
            facts |= _estimate(f"{metric}_over_{name}", above, counts, seed)
    return facts


def _estimate(name: str, sums: list[float], counts: list[int], seed: int) -> dict[str, Any]:
    estimate = bootstrap_ratio(sums, counts, seed=seed)
    return {name: estimate.mean, f"{name}_interval": estimate.interval}
