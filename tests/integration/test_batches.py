"""Cuts on a real HDFS: a chain, whoever takes them, and whenever they die."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import count, pairwise

import pytest

from infra.settings import Settings
from infra.topics import end_offsets
from storage.batches import cuts
from storage.batches.cuts import Cut
from storage.errors import BatchError
from storage.hdfs import Hdfs
from storage.layout import BUCKET, Layout
from tests.support.corners import own_corner, own_topics, produce
from tests.support.events import event


@pytest.fixture(scope="module")
def fs(cluster_settings: Settings) -> Hdfs:
    return Hdfs(cluster_settings)


@pytest.fixture
def layout(cluster_settings: Settings) -> Layout:
    settings = own_corner(cluster_settings)
    return Layout(settings.hdfs.root, settings.kafka.topic)


def test_a_batch_begins_where_the_one_before_it_ended(fs: Hdfs, layout: Layout) -> None:
    one = cuts.take(fs, layout, "one", lambda: {0: 5, 1: 0})
    two = cuts.take(fs, layout, "two", lambda: {0: 9, 1: 7, 2: 3})
    assert (one.number, one.starts, one.ends, one.offsets) == (1, {0: 0, 1: 0}, {0: 5, 1: 0}, 5)
    assert (two.number, two.starts, two.offsets) == (2, {0: 5, 1: 0, 2: 0}, 14)
    assert cuts.get(fs, layout, "one") == one
    assert cuts.newest(fs, layout) == two == cuts.newest(fs, layout, one)
    assert list(cuts.all_cuts(fs, layout)) == [one, two]


def test_before_the_first_cut_there_is_none(fs: Hdfs, layout: Layout) -> None:
    assert cuts.newest(fs, layout) is None
    assert list(cuts.all_cuts(fs, layout)) == []
    with pytest.raises(BatchError, match="no cut 'one'"):
        cuts.get(fs, layout, "one")


def test_an_empty_batch_is_a_link_of_the_chain_like_any_other(fs: Hdfs, layout: Layout) -> None:
    ends = {0: 5}
    taken = [cuts.take(fs, layout, name, lambda: ends) for name in ("one", "two", "three")]
    assert [(cut.number, cut.offsets) for cut in taken] == [(1, 5), (2, 0), (3, 0)]


def test_the_same_name_gives_the_same_cut_again(fs: Hdfs, layout: Layout) -> None:
    one = cuts.take(fs, layout, "one", lambda: {0: 5})
    assert cuts.take(fs, layout, "one", lambda: {0: 99}) == one
    cuts.take(fs, layout, "two", lambda: {0: 100})
    assert cuts.take(fs, layout, "one", lambda: {0: 199}) == one
    assert len(list(cuts.all_cuts(fs, layout))) == 2


@pytest.mark.parametrize("name", ["", "a/b", "../x", ".hidden", "-x", "a b", "ü"])
def test_a_name_that_is_no_file_name_is_refused(fs: Hdfs, layout: Layout, name: str) -> None:
    with pytest.raises(BatchError, match="can't name a cut"):
        cuts.take(fs, layout, name, lambda: {0: 5})
    with pytest.raises(BatchError, match="no cut"):
        cuts.get(fs, layout, name)


@pytest.mark.parametrize("ends", [{0: 4, 1: 9}, {1: 9}])
def test_offsets_that_went_backwards_or_vanished_are_refused(fs: Hdfs, layout: Layout, ends: dict[int, int]) -> None:
    cuts.take(fs, layout, "one", lambda: {0: 5, 1: 9})
    with pytest.raises(BatchError, match="p=0: 5 ->"):
        cuts.take(fs, layout, "two", lambda: ends)
    assert len(list(cuts.all_cuts(fs, layout))) == 1


def test_a_taker_that_dies_between_its_two_files_is_repaired_by_whoever_comes(fs: Hdfs, layout: Layout) -> None:
    one = cuts.take(fs, layout, "one", lambda: {0: 5})
    fs.delete(f"{layout.cuts}/one.json")
    assert cuts.get(fs, layout, "one") == one
    fs.delete(f"{layout.cuts}/one.json")
    cuts.take(fs, layout, "two", lambda: {0: 9})
    assert Cut.from_json(fs.read(f"{layout.cuts}/one.json")) == one
    fs.delete(f"{layout.cuts}/two.json")
    assert cuts.take(fs, layout, "two", lambda: {0: 99}).ends == {0: 9}


def test_takers_at_once_make_a_chain_without_overlap(fs: Hdfs, layout: Layout) -> None:
    log, together, rounds = count(1), 4, 4
    barrier = threading.Barrier(together)

    def take(taker: int) -> list[Cut]:
        barrier.wait(60)
        return [cuts.take(fs, layout, f"{taker}-{n}", lambda: {0: next(log)}) for n in range(rounds)]

    with ThreadPoolExecutor(together) as pool:
        taken = [cut for some in pool.map(take, range(together)) for cut in some]
    chain = list(cuts.all_cuts(fs, layout))
    assert [cut.number for cut in chain] == list(range(1, together * rounds + 1))
    assert sorted(taken, key=lambda cut: cut.number) == chain
    assert all(before.ends[0] == after.starts[0] < after.ends[0] for before, after in pairwise(chain))
    assert all(cuts.get(fs, layout, cut.name) == cut for cut in chain)


def test_takers_of_one_name_at_once_get_one_cut(fs: Hdfs, layout: Layout) -> None:
    log, together = count(1), 4
    barrier = threading.Barrier(together)

    def take(_: int) -> Cut:
        barrier.wait(60)
        return cuts.take(fs, layout, "hour", lambda: {0: next(log)})

    with ThreadPoolExecutor(together) as pool:
        taken = list(pool.map(take, range(together)))
    assert taken == list(cuts.all_cuts(fs, layout)) * together


def test_files_are_the_visible_ones_that_overlap_with_the_part_that_does(fs: Hdfs, layout: Layout) -> None:
    for first, last in ((0, 9), (10, 19), (0, 19), (20, 39), (BUCKET - 5, BUCKET - 1), (BUCKET, BUCKET + 5)):
        fs.create(f"{layout.raw(0)}/{layout.file(0, first, last, 'avro')}", [b""], create_parents=True)
    one = cuts.take(fs, layout, "one", lambda: {0: 15})
    two = cuts.take(fs, layout, "two", lambda: {0: 30, 1: 0})
    three = cuts.take(fs, layout, "three", lambda: {0: BUCKET + 3, 1: 0})
    four = cuts.take(fs, layout, "four", lambda: {0: BUCKET + 3, 1: 0})

    def parts(cut: Cut) -> list[tuple[int, int, int]]:
        return [(file.partition, file.part.first, file.part.last) for file in cuts.files(fs, layout, cut)]

    assert parts(one) == [(0, 0, 14)]
    assert parts(two) == [(0, 15, 19), (0, 20, 29)]
    assert parts(three) == [(0, 30, 39), (0, BUCKET - 5, BUCKET - 1), (0, BUCKET, BUCKET + 2)]
    assert parts(four) == []
    (file,) = cuts.files(fs, layout, one)
    assert (file.range.first, file.range.last, fs.exists(file.path)) == (0, 19, True)


def test_a_cut_of_a_real_topic_ends_where_kafka_ends(cluster_settings: Settings, fs: Hdfs) -> None:
    settings = own_topics(cluster_settings, partitions=3)
    layout = Layout(settings.hdfs.root, settings.kafka.topic)
    produce(settings, 1, [event(str(n)) for n in range(7)])
    cut = cuts.take(fs, layout, "now", lambda: end_offsets(settings, layout.topic))
    assert cut.ends == {0: 0, 1: 7, 2: 0}
