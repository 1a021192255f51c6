"""Next-item models side by side on anybody's sessions.

Protocol. For each test session and each of its items but the first, the items before it are the beginning and it is
the one right answer; answers that no train session has are left out, for all models alike. Means are over predictions,
their intervals over sessions, by bootstrap.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from processing.bench.files import Sessions
from processing.metrics import bootstrap
from processing.training.session_models import MODELS, Popularity, top

Progress = Callable[[str], None]


def run(train: Sessions, test: Sessions, algorithms: Sequence[str], k: int, tell: Progress) -> dict[str, Any]:
    """Recall@k and MRR@k of each algorithm, and how many predictions they are of."""
    known = Popularity(train.items).counts
    popular = [item for item, _ in known.most_common(k)]
    results = {}
    for name in algorithms:
        tell(name)
        model = MODELS[name](train.items)
        ranks = [
            [
                _rank(top(model.scores(items[:at]), popular, k), items[at])
                for at in range(1, len(items))
                if items[at] in known
            ]
            for items in test.items
        ]
        results[name] = _numbers([of for of in ranks if of])
    return results


def _rank(ranked: list[int], answer: int) -> int:
    """The answer's place from 1 on; 0 when it is not there."""
    return ranked.index(answer) + 1 if answer in ranked else 0


def _numbers(sessions: list[list[int]]) -> dict[str, Any]:
    """Of the ranks in each session. A session's weight is the number of its predictions."""
    predictions = sum(map(len, sessions))
    facts: dict[str, Any] = {"predictions": predictions, "sessions": len(sessions)}
    mean = predictions / len(sessions) if sessions else 1.0
    for metric, value in {"recall": bool, "mrr": lambda rank: 1 / rank if rank else 0.0}.items():
        estimate = bootstrap([sum(map(value, ranks)) / mean for ranks in sessions])
        facts |= {metric: estimate.mean, f"{metric}_interval": estimate.interval}
    return facts
