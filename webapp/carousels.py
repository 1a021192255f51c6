"""The items of each carousel, and a heading that says how they were chosen. Pure, but for random impression ids."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from processing.ranking import recommend_for_history
from webapp.snapshot import Item, Snapshot

Source = Literal["for_you", "history", "similar", "popular"]

POPULAR_WHY = "What most visitors looked at."
LITTLE_KNOWN = "Too little is known of this visitor for more: view a page or two."


@dataclass(frozen=True, slots=True)
class Carousel:
    """A list of items on a page. `impression_id` identifies this impression; clicks on it carry the same id."""

    list_id: str
    heading: str
    why: str
    source: Source
    items: Sequence[Item]
    model_version: str
    impression_id: str = field(default_factory=lambda: str(uuid.uuid4()))


def popular(snapshot: Snapshot, list_id: str, n: int) -> Carousel:
    """The first `n` by popularity."""
    return _carousel(snapshot, list_id, "Popular now", POPULAR_WHY, "popular", snapshot.popular[:n])


def recommended(
    snapshot: Snapshot,
    list_id: str,
    visitor_id: str,
    history: Sequence[str],
    n: int,
    shown: Collection[str] = (),
) -> Carousel:
    """The model's items for this visitor, else items similar to their `history` (newest last), else popular ones.

    Excludes the items in `shown`, which are on the page already, and those of `history`. A short list is filled with
    popular items, and its heading says so.
    """
    heading = "Recommended for you"
    seen = {*history, *shown}
    plain = _first(n, snapshot.popular, seen)
    learnt = _first(n, (item for item, _ in snapshot.learnt.get(visitor_id, ())), seen)
    if learnt and learnt != plain[: len(learnt)]:
        picks = list(dict.fromkeys([*learnt, *plain]))[:n]
        why = f"Learnt from this visitor's earlier visits{_ending(len(learnt), picks)}"
        return _carousel(snapshot, list_id, heading, why, "for_you", picks)
    if known := [item for item in history if snapshot.similar.get(item)]:
        ranked = recommend_for_history(snapshot.similar, history, snapshot.popular, n + len(seen))
        picks = _first(n, ranked, seen)
        if related := {item for viewed in known for item, _ in snapshot.similar[viewed]} & {*picks}:
            names = " and ".join(f"“{snapshot.items[item].label}”" for item in known[:-3:-1])
            return _carousel(snapshot, list_id, heading, f"{names}{_ending(len(related), picks)}", "history", picks)
    return _carousel(snapshot, list_id, heading, f"{POPULAR_WHY} {LITTLE_KNOWN}", "popular", plain)


def also_viewed(snapshot: Snapshot, list_id: str, item_id: str, n: int) -> Carousel:
    """Items viewed in the same sessions; a short list is filled with popular items, and its heading says so."""
    if picks := _first(n, (item for item, _ in snapshot.similar.get(item_id, ())), {item_id}):
        why = "Viewed in the same sessions as this page."
        return _carousel(snapshot, list_id, "People also viewed", why, "similar", picks)
    why = f"Too few have viewed this page to say what goes with it. {POPULAR_WHY}"
    picks = _first(n, snapshot.popular, {item_id})
    return _carousel(snapshot, list_id, "Popular instead", why, "popular", picks)


def _ending(meant: int, picks: Sequence[str]) -> str:
    """The end of a heading, if only the first `meant` items were chosen for its reason."""
    return "." if meant == len(picks) else "; after that, what is popular."


def _first(n: int, ranked: Iterable[str], without: Collection[str]) -> list[str]:
    return [item for item in ranked if item not in without][:n]


def _carousel(
    snapshot: Snapshot, list_id: str, heading: str, why: str, source: Source, picks: Sequence[str]
) -> Carousel:
    items = [snapshot.items[item] for item in picks]
    return Carousel(list_id, heading, why, source, items, snapshot.version)
