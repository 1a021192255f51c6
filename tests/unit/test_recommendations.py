"""What the shop knows: snapshots of exports, swapped whole, and which items a list shows and why."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pytest

from tests.fakes import FakeExports
from webapp.carousels import also_viewed, popular, recommended
from webapp.errors import ExportError
from webapp.recommendations import RecommendationStore
from webapp.snapshot import Export, Item, Snapshot, build_snapshot

POPULAR = [f"/p{n}" for n in range(10)]


def an_export(
    for_visitors: Mapping[str, Sequence[str]] | None = None,
    similar: Mapping[str, Sequence[str]] | None = None,
    popular: Sequence[str] = POPULAR,
    **tables: Any,
) -> Export:
    """An export with lists in these orders; `tables` replace whole ones."""
    return Export(
        {
            "for_visitors": for_people(for_visitors or {}),
            "similar": ranked("item_id", "similar_item_id", similar or {}),
            "popular": pa.table(
                {"rank": range(len(popular)), "item_id": pa.array(popular, pa.string()), "score": [1.0] * len(popular)}
            ),
            "items": pa.table(
                {
                    "item_id": pa.array(popular, pa.string()),
                    "title": pa.array(popular, pa.string()),
                    "path": pa.array(popular, pa.string()),
                    "views": pa.array(range(len(popular)), pa.int64()),
                }
            ),
        }
        | tables,
        {},
    )


def ranked(key: str, item: str, lists: Mapping[str, Sequence[str]]) -> Any:
    """A table of lists, its rows in the reverse of their ranks, as nothing promises an order."""
    rows = [(k, rank, i, 1 / (rank + 1)) for k, items in lists.items() for rank, i in enumerate(items)][::-1]
    columns = list(zip(*rows, strict=True)) or [()] * 4
    types = [pa.string(), pa.int32(), pa.string(), pa.float64()]
    arrays = [pa.array(column, type_) for column, type_ in zip(columns, types, strict=True)]
    return pa.table(arrays, names=[key, "rank", item, "score"])


def for_people(lists: Mapping[str, Sequence[str]], source: str = "als") -> Any:
    """Lists for visitors, all of one source."""
    table = ranked("visitor_id", "item_id", lists)
    return table.append_column("source", pa.array([source] * len(table), pa.string()))


def a_snapshot(**lists: Any) -> Snapshot:
    return build_snapshot("v1", an_export(**lists))


def replaced(name: str, table: Any) -> Export:
    return Export({**an_export().tables, name: table}, {})


def ids(items: Sequence[Item]) -> list[str]:
    return [item.item_id for item in items]


def test_lists_come_in_order_of_rank_whatever_the_order_of_rows() -> None:
    snapshot = a_snapshot(for_visitors={"b": ["/p3", "/p1", "/p2"], "a": ["/p9", "/p0"]})
    assert dict(snapshot.for_visitors) == {
        "a": (("/p9", 1.0), ("/p0", 1 / 2)),
        "b": (("/p3", 1.0), ("/p1", 1 / 2), ("/p2", 1 / 3)),
    }
    assert snapshot.for_visitors.get("nobody") is None


def test_lists_survive_tables_in_several_chunks() -> None:
    parts = [for_people({f"v{n}": ["/p1", "/p2"]}) for n in range(5)]
    snapshot = build_snapshot("v1", replaced("for_visitors", pa.concat_tables(parts)))
    assert {visitor: [item for item, _ in snapshot.for_visitors[visitor]] for visitor in snapshot.for_visitors} == {
        f"v{n}": ["/p1", "/p2"] for n in range(5)
    }


def test_an_item_that_is_recommended_but_not_listed_is_shown_under_its_id() -> None:
    snapshot = a_snapshot(similar={"/p0": ["/unlisted"]})
    assert snapshot.items["/unlisted"] == Item("/unlisted", "/unlisted", "/unlisted", 0)
    assert snapshot.items["/p4"].views == 4


@pytest.mark.parametrize("name", ["for_visitors", "similar", "popular", "items"])
def test_an_export_without_a_table_or_a_column_is_refused_by_name(name: str) -> None:
    export = an_export()
    with pytest.raises(ExportError, match=f"no table {name}"):
        build_snapshot("v1", Export({k: v for k, v in export.tables.items() if k != name}, {}))
    with pytest.raises(ExportError, match=f"{name} has no column item_id"):
        build_snapshot("v1", Export({**export.tables, name: export.tables[name].drop_columns("item_id")}, {}))


def test_a_null_key_is_refused() -> None:
    table = pa.table({"rank": [0], "item_id": pa.array([None], pa.string()), "score": [1.0]})
    with pytest.raises(ExportError, match=r"popular\.item_id has 1 nulls"):
        build_snapshot("v1", replaced("popular", table))


def test_rows_that_only_fill_up_a_list_count_as_not_learnt() -> None:
    filled = for_people({"a": ["/p7"], "b": ["/p9"]}, source="popular")
    snapshot = build_snapshot("v1", replaced("for_visitors", pa.concat_tables([for_people({"b": ["/p8"]}), filled])))
    assert {*snapshot.for_visitors} == {"a", "b"}
    assert dict(snapshot.learnt) == {"b": (("/p8", 1.0),)}


def test_samples_are_the_visitors_least_like_the_crowd() -> None:
    snapshot = a_snapshot(for_visitors={"crowd": ["/p1", "/p2"], "half": ["/p1", "/x"], "own": ["/x", "/y"]})
    assert snapshot.sample_visitors(2) == ["own", "half"]
    assert a_snapshot().sample_visitors(2) == []


@pytest.mark.parametrize(
    ("item_id", "title", "label", "section"),
    [
        ("/blog/ssl-latency.html", "/blog/ssl-latency.html", "Ssl latency", "blog"),
        ("/blog/ssl-latency.html", "Where SSL waits", "Where SSL waits", "blog"),
        ("/projects/xdotool/", "/projects/xdotool/", "Xdotool", "projects"),
        ("/blog/tags/caf%C3%A9", "/blog/tags/caf%C3%A9", "Café", "blog"),
        ("/", "/", "Home page", ""),
        ("item_0042", "item_0042", "Item 0042", ""),
        ("---", "---", "---", ""),
    ],
)
def test_an_item_without_a_title_is_called_by_its_path(item_id: str, title: str, label: str, section: str) -> None:
    item = Item(item_id, title, item_id, 0)
    assert (item.label, item.section) == (label, section)


def test_a_known_visitor_gets_what_was_learnt_of_them() -> None:
    snapshot = a_snapshot(for_visitors={"ann": ["/p7", "/p5"]})
    shown = recommended(snapshot, "l", "ann", [], 2)
    assert (shown.source, ids(shown.items), shown.model_version) == ("for_you", ["/p7", "/p5"], "v1")


def test_a_list_that_falls_short_is_filled_up_with_popular_items_and_says_so() -> None:
    snapshot = a_snapshot(for_visitors={"ann": ["/p7", "/p1"]})
    shown = recommended(snapshot, "l", "ann", [], 4)
    assert ids(shown.items) == ["/p7", "/p1", "/p0", "/p2"]
    assert "after that, what is popular" in shown.why
    assert "after that" not in recommended(snapshot, "l", "ann", [], 2).why


def test_a_list_for_a_visitor_that_is_plain_popularity_is_called_popular() -> None:
    shown = recommended(a_snapshot(for_visitors={"ann": POPULAR[:3]}), "l", "ann", [], 3)
    assert (shown.source, ids(shown.items)) == ("popular", POPULAR[:3])


def test_an_unknown_visitor_gets_what_goes_with_what_they_viewed() -> None:
    snapshot = a_snapshot(similar={"/p1": ["/p8", "/p9"], "/p2": ["/p6"]})
    shown = recommended(snapshot, "l", "new", ["/p1", "/p2"], 4)
    assert shown.source == "history"
    assert {*ids(shown.items)[:3]} == {"/p6", "/p8", "/p9"}
    assert ids(shown.items)[3] == "/p0"  # popular fills up
    assert shown.why == "“P2” and “P1”; after that, what is popular."


def test_a_visitor_of_whom_nothing_is_known_gets_popular_items() -> None:
    for history in ([], ["/p0"], ["/gone"]):
        shown = recommended(a_snapshot(), "l", "new", history, 3)
        assert shown.source == "popular"
        assert ids(shown.items) == [item for item in POPULAR if item not in history][:3]


def test_nothing_seen_just_now_or_shown_already_is_offered() -> None:
    snapshot = a_snapshot(for_visitors={"ann": ["/p5", "/p6", "/p7"]}, similar={"/p1": ["/p2", "/p3", "/p4"]})
    assert ids(recommended(snapshot, "l", "ann", ["/p5"], 3, ["/p6"]).items) == ["/p7", "/p0", "/p1"]
    assert ids(recommended(snapshot, "l", "new", ["/p1"], 3, ["/p3"]).items) == ["/p2", "/p4", "/p0"]


def test_also_viewed_is_what_is_similar_else_popular_and_says_which() -> None:
    snapshot = a_snapshot(similar={"/p3": ["/p9", "/p3", "/p8"]})
    similar, fallback = also_viewed(snapshot, "l", "/p3", 5), also_viewed(snapshot, "l", "/p0", 2)
    assert (similar.source, ids(similar.items)) == ("similar", ["/p9", "/p8"])
    assert (fallback.source, ids(fallback.items)) == ("popular", ["/p1", "/p2"])
    assert fallback.heading != similar.heading


def test_each_showing_of_a_list_has_an_id_of_its_own() -> None:
    snapshot = a_snapshot()
    assert popular(snapshot, "l", 3).impression_id != popular(snapshot, "l", 3).impression_id


def test_a_store_waits_for_the_first_export_and_swaps_in_each_new_one() -> None:
    exports = FakeExports()
    store = RecommendationStore(exports)
    assert (store.refresh(), store.snapshot) == ("absent", None)
    exports.publish("v1", an_export())
    assert store.refresh() == "loaded"
    first = store.snapshot
    assert store.refresh() == "unchanged"
    assert store.snapshot is first and exports.loads == ["v1"]
    exports.publish("v2", an_export(popular=["/new"]))
    assert store.refresh() == "loaded"
    assert store.snapshot is not None and store.snapshot.popular == ["/new"]
    assert first is not None and first.popular == POPULAR  # a request that still holds it is not disturbed


def test_a_load_that_fails_keeps_the_old_export_and_is_counted() -> None:
    exports = FakeExports()
    store = RecommendationStore(exports)
    exports.publish("v1", an_export())
    store.refresh()
    old = store.snapshot
    exports.publish("v2", Export({}, {}))
    assert (store.refresh(), store.snapshot) == ("failed", old)
    assert store.error == "ExportError: export v2: there is no table for_visitors"
    exports.failure = OSError("no NameNode")
    assert store.refresh() == "failed"
    assert store.metrics.registry.get_sample_value("clickstream_webapp_export_checks_total", {"outcome": "failed"}) == 2
    exports.failure = None
    exports.publish("v3", an_export())
    assert (store.refresh(), store.error) == ("loaded", None)


def test_the_thread_finds_an_export_published_later_and_stops_when_told() -> None:
    exports = FakeExports()
    store = RecommendationStore(exports)
    before = threading.active_count()
    store.start(0.01)
    try:
        exports.publish("v1", an_export())
        deadline = threading.Event()
        for _ in range(500):
            if store.snapshot:
                break
            deadline.wait(0.01)
        assert store.snapshot is not None
    finally:
        store.stop()
    assert threading.active_count() == before
