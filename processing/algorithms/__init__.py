"""Recommenders, each one module here and one line in ALGORITHMS: what is searched, trained and benchmarked alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pkgutil import resolve_name
from typing import TYPE_CHECKING

from infra.errors import ConfigurationError

if TYPE_CHECKING:
    from processing.algorithms.interface import Algorithm


@dataclass(frozen=True, slots=True)
class Entry:
    """Where an algorithm is defined: names are listed without importing numpy or Spark.

    `searched`: tried by default. `next_item`: also continues sessions, see interface.NextItem.
    """

    place: str
    searched: bool = True
    next_item: bool = False


ALGORITHMS: Mapping[str, Entry] = {
    "als": Entry("processing.algorithms.als:IMPLICIT"),
    "ease": Entry("processing.algorithms.ease:EASE"),
    "cooccurrence": Entry("processing.algorithms.cooccurrence:COOCCURRENCE"),
    "sessions": Entry("processing.algorithms.sessions:SESSIONS"),
    "popular": Entry("processing.algorithms.popular:POPULAR"),
    "als_explicit": Entry("processing.algorithms.als:EXPLICIT", searched=False),
    "nearest_sessions": Entry("processing.algorithms.nearest_sessions:NEAREST_SESSIONS", next_item=True),
}


def algorithm(name: str) -> Algorithm:
    """The algorithm of this name. Raises ConfigurationError, which lists the names that there are."""
    if name not in ALGORITHMS:
        raise ConfigurationError([f"no recommender is called {name!r}; there are {', '.join(ALGORITHMS)}"])
    found: Algorithm = resolve_name(ALGORITHMS[name].place)
    return found


def searched(names: Sequence[str]) -> tuple[str, ...]:
    """The algorithms among which a search chooses: `names` (processing.search_algorithms), or without any the usual."""
    return tuple(names) or tuple(name for name, entry in ALGORITHMS.items() if entry.searched)
