"""Suggestions from a history, without a model of the visitor."""

from __future__ import annotations

from processing.ranking import RECENCY, fill, recommend_for_history, score_history

SIMILAR = {"a": [("b", 0.5), ("c", 0.4)], "b": [("a", 0.5), ("d", 0.5)], "e": [("c", 0.4)]}
POPULAR = ["a", "p", "q", "c"]


def test_what_is_similar_comes_first_and_popular_items_fill_up() -> None:
    assert recommend_for_history(SIMILAR, ["a"], POPULAR, 4) == ["b", "c", "p", "q"]


def test_the_newest_item_of_the_history_counts_most() -> None:
    assert recommend_for_history(SIMILAR, ["a", "b"], POPULAR, 2) == ["d", "c"]
    assert score_history(SIMILAR, ["a", "b"]) == {"d": 0.5, "c": 0.4 * RECENCY}


def test_two_witnesses_add_up() -> None:
    assert recommend_for_history(SIMILAR, ["e", "a"], (), 2) == ["c", "b"]


def test_an_item_seen_twice_counts_once_at_its_newest_place() -> None:
    assert score_history(SIMILAR, ["a", "e", "a"]) == score_history(SIMILAR, ["e", "a"])


def test_nothing_of_the_history_is_suggested() -> None:
    assert recommend_for_history(SIMILAR, ["a", "b", "c", "d", "p"], POPULAR, 9) == ["q"]


def test_ties_go_by_item() -> None:
    assert recommend_for_history({"x": [("c", 1.0), ("a", 1.0), ("b", 1.0)]}, ["x"], (), 3) == ["a", "b", "c"]


def test_an_unknown_or_empty_history_gets_popular_items() -> None:
    assert recommend_for_history(SIMILAR, [], POPULAR, 2) == ["a", "p"]
    assert recommend_for_history({}, ["z"], iter(POPULAR), 9) == POPULAR


def test_none_are_given_when_none_are_asked() -> None:
    assert recommend_for_history(SIMILAR, ["a"], POPULAR, 0) == recommend_for_history(SIMILAR, ["a"], POPULAR, -1) == []


def test_filling_gives_each_item_once() -> None:
    assert fill(["a", "b", "a"], ["b", "c", "d"], 3, excluded=["d"]) == ["a", "b", "c"]
