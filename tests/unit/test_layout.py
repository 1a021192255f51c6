"""Paths, names and what readers see."""

from __future__ import annotations

import pytest

from storage.layout import BUCKET, Layout, Range, parse, split, visible

LAYOUT = Layout("/clickstream", "clicks")


def name(first: int, last: int) -> str:
    return LAYOUT.file(3, first, last, "avro").rsplit("/", 1)[-1]


def test_a_file_is_named_by_topic_partition_and_offsets_in_the_bucket_of_its_first() -> None:
    path = f"{LAYOUT.raw(3)}/{LAYOUT.file(3, 120_000_007, 120_000_009, 'avro')}"
    expected = "b=0000000012/clicks+3+0000000000120000007+0000000000120000009.avro"
    assert path == f"/clickstream/raw/clicks/p=03/{expected}"
    found = parse(path)
    assert found is not None and (found.first, found.last, len(found)) == (120_000_007, 120_000_009, 3)


@pytest.mark.parametrize(("first", "last"), [(5, 4), (-1, 4), (BUCKET - 1, BUCKET)])
def test_a_range_that_is_none_or_crosses_a_bucket_has_no_name(first: int, last: int) -> None:
    with pytest.raises(ValueError, match="no range within one bucket"):
        LAYOUT.file(0, first, last, "avro")


@pytest.mark.parametrize("other", ["_SUCCESS", "clicks+3+1+2.avro", "_clicks+3+0+1.avro.x.tmp", "b=0000000012"])
def test_names_that_are_none_of_ours_are_not_seen(other: str) -> None:
    assert parse(other) is None
    assert visible([other]) == []


def test_a_range_within_another_is_hidden_so_compaction_needs_no_swap() -> None:
    parts = [name(0, 9), name(10, 19), name(20, 29)]
    assert [(r.first, r.last) for r in visible(reversed(parts))] == [(0, 9), (10, 19), (20, 29)]
    assert [(r.first, r.last) for r in visible([*parts, name(0, 19)])] == [(0, 19), (20, 29)]
    assert [(r.first, r.last) for r in visible([*parts, name(10, 29)])] == [(0, 9), (10, 29)]


def test_intersect_clips_to_a_half_open_interval() -> None:
    assert Range(5, 9, "f").intersect(7, 100) == Range(7, 9, "f")
    assert Range(5, 9).intersect(0, 6) == Range(5, 5)
    assert Range(5, 9).intersect(10, 20) is None
    assert Range(5, 9).intersect(0, 5) is None


def test_split_cuts_where_buckets_end() -> None:
    assert list(split(BUCKET - 2, 2 * BUCKET)) == [
        (BUCKET - 2, BUCKET - 1),
        (BUCKET, 2 * BUCKET - 1),
        (2 * BUCKET, 2 * BUCKET),
    ]
