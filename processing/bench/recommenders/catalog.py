"""Names of what is measured: production's recommenders, and baselines, which only the benches fit.

The command line lists the names without importing numpy or Spark.
"""

from __future__ import annotations

from pkgutil import resolve_name
from typing import TYPE_CHECKING

from processing.algorithms import ALGORITHMS, algorithm

if TYPE_CHECKING:
    from collections.abc import Sequence

    from processing.algorithms.interface import NextItem
    from processing.bench.recommenders.interface import Contestant

_BASELINES = "processing.bench.recommenders.baselines"
RATING_BASELINES = {"popularity": "Popularity", "biases": "Biases"}
NEXT_ITEM_BASELINES = {"popularity": "popular_items", "markov": "markov", "vsknn": "vsknn"}
RECOMMENDERS = (*RATING_BASELINES, *ALGORITHMS)
NEXT_ITEM = (*NEXT_ITEM_BASELINES, *(name for name, entry in ALGORITHMS.items() if entry.next_item))


def contestant(name: str) -> Contestant:
    """One of RECOMMENDERS."""
    if name in RATING_BASELINES:
        found: Contestant = resolve_name(f"{_BASELINES}:{RATING_BASELINES[name]}")
        return found
    from processing.bench.recommenders.production import Production

    return Production(name)


def next_item(name: str, sessions: Sequence[Sequence[int]]) -> NextItem:
    """One of NEXT_ITEM, which has learnt from the sessions; production's has its default parameters."""
    if name in NEXT_ITEM_BASELINES:
        model: NextItem = resolve_name(f"{_BASELINES}:{NEXT_ITEM_BASELINES[name]}")(sessions)
        return model
    known = algorithm(name)
    assert known.learn_sessions is not None
    return known.learn_sessions(sessions, dict(known.defaults))
