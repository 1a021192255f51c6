"""Recent views and the tiles: small pure parts of the shop."""

from __future__ import annotations

from webapp.tiles import tile
from webapp.visitors import RecentViews


def test_recent_views_are_newest_last_each_once_and_bounded() -> None:
    recent = RecentViews(length=3)
    for item in ["/a", "/b", "/a", "/c", "/d"]:
        recent.add("v", item)
    assert recent.of("v") == ("/a", "/c", "/d")
    assert recent.of("other") == ()


def test_the_visitor_seen_longest_ago_is_forgotten_first() -> None:
    recent = RecentViews(visitors=2)
    for visitor in ["a", "b", "a", "c"]:
        recent.add(visitor, "/x")
    assert [len(recent.of(visitor)) for visitor in "abc"] == [1, 0, 1]


def test_an_item_always_has_the_same_picture_and_others_another() -> None:
    assert tile("/a") == tile("/a")
    assert len({tile(f"/{n}") for n in range(100)}) == 100
