"""One export in memory, immutable: items, popularity, similar items and each visitor's recommendations.

Lists stay in Arrow tables and are sliced on demand, so a million visitors take megabytes instead of Python tuples.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.compute as pc

from webapp.errors import ExportError

COLUMNS: Mapping[str, tuple[str, ...]] = {
    "for_visitors": ("visitor_id", "rank", "item_id", "score", "source"),
    "similar": ("item_id", "rank", "similar_item_id", "score"),
    "popular": ("rank", "item_id", "score"),
    "items": ("item_id", "title", "path", "views"),
}


@dataclass(frozen=True, slots=True)
class Item:
    """An item of the shop; `views`: its page views in the training data."""

    item_id: str
    title: str
    path: str
    views: int

    @property
    def label(self) -> str:
        """The title to show; if it is only the path, the path's last part in words."""
        if self.title not in (self.item_id, self.path):
            return self.title
        last = next((part for part in reversed(self.item_id.split("/")) if part), "")
        stem = unquote(last).removesuffix(".html").removesuffix(".xhtml")
        words = " ".join(stem.replace("-", " ").replace("_", " ").split())
        return words[:1].upper() + words[1:] or ("Home page" if self.item_id == "/" else self.item_id)

    @property
    def section(self) -> str:
        """The path's first segment as a category; empty if it has only one."""
        parts = [part for part in self.item_id.split("/") if part]
        return unquote(parts[0]) if len(parts) > 1 else ""


@dataclass(frozen=True, slots=True)
class Export:
    """What an ExportReader loads: Arrow tables by the names of COLUMNS, and report.json."""

    tables: Mapping[str, Any]
    report: Mapping[str, Any]


class RankedLists(Mapping[str, Sequence[tuple[str, float]]]):
    """key -> (item id, score) in order of rank, over a table (`key`, rank, `item`, score)."""

    def __init__(self, table: Any, key: str, item: str) -> None:
        ordered = table.sort_by([(key, "ascending"), ("rank", "ascending")])
        self._items, self._scores = ordered[item], ordered["score"]
        runs = pc.run_end_encode(ordered[key].combine_chunks()) if len(ordered) else None
        ends = [0, *(runs.run_ends.to_pylist() if runs is not None else ())]
        keys = runs.values.to_pylist() if runs is not None else []
        self._spans = dict(zip(keys, pairwise(ends), strict=True))

    def __getitem__(self, key: str) -> Sequence[tuple[str, float]]:
        start, end = self._spans[key]
        items, scores = self._items[start:end].to_pylist(), self._scores[start:end].to_pylist()
        return tuple(zip(items, scores, strict=True))

    def __iter__(self) -> Iterator[str]:
        return iter(self._spans)

    def __len__(self) -> int:
        return len(self._spans)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything the shop shows of one model version. `popular` is ordered by popularity.

    `for_visitors`: each visitor's whole list; `learnt`: the same without the popular items that fill it up.
    """

    version: str
    items: Mapping[str, Item]
    popular: Sequence[str]
    similar: RankedLists
    for_visitors: RankedLists
    learnt: RankedLists
    report: Mapping[str, Any]

    def sample_visitors(self, n: int, among: int = 2000) -> list[str]:
        """Up to `n` visitors whose lists differ most from plain popularity, ties in order of id."""
        plain = set(self.popular[:20])
        lists = self.learnt or self.for_visitors
        candidates = [
            (-sum(item not in plain for item, _ in lists[visitor]), visitor) for visitor in islice(lists, among)
        ]
        return [visitor for _, visitor in sorted(candidates)[:n]]


def build_snapshot(version: str, export: Export) -> Snapshot:
    """The snapshot of an export. Raises ExportError if a table or column is missing, or a key is null.

    A recommended item that is not in `items` is shown by its id.
    """
    tables = {name: _checked(version, name, export.tables.get(name)) for name in COLUMNS}
    items = {
        row["item_id"]: Item(
            row["item_id"], row["title"] or row["item_id"], row["path"] or row["item_id"], row["views"] or 0
        )
        for row in tables["items"].to_pylist()
    }
    popular = tables["popular"].sort_by("rank")["item_id"].to_pylist()
    for name, column in (
        ("popular", "item_id"),
        ("similar", "item_id"),
        ("similar", "similar_item_id"),
        ("for_visitors", "item_id"),
    ):
        for item_id in pc.unique(tables[name][column]).to_pylist():
            items.setdefault(item_id, Item(item_id, item_id, item_id, 0))
    return Snapshot(
        version=version,
        items=items,
        popular=popular,
        similar=RankedLists(tables["similar"], "item_id", "similar_item_id"),
        for_visitors=RankedLists(tables["for_visitors"], "visitor_id", "item_id"),
        learnt=RankedLists(_learnt(tables["for_visitors"]), "visitor_id", "item_id"),
        report=export.report,
    )


def _checked(version: str, name: str, table: Any) -> Any:
    """The table's columns in COLUMNS, ids as plain strings."""
    if table is None:
        raise ExportError(version, f"there is no table {name}")
    missing = [column for column in COLUMNS[name] if column not in table.column_names]
    if missing:
        raise ExportError(version, f"{name} has no column {', '.join(missing)}")
    table = table.select(COLUMNS[name])
    for index, column in enumerate(COLUMNS[name]):
        if column.endswith("_id"):
            if table[column].null_count:
                raise ExportError(version, f"{name}.{column} has {table[column].null_count} nulls")
            table = table.set_column(index, column, table[column].cast(pa.string()))
    return table


def _learnt(for_visitors: Any) -> Any:
    """The rows that come from a model; the others are popular items that fill a list up."""
    return for_visitors.filter(pc.not_equal(for_visitors["source"].cast(pa.string()), "popular"))
