"""Ownership of a partition on a real HDFS: every step interrupted, zombies awakened, many at once."""

from __future__ import annotations

import threading
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest

from infra.settings import Settings
from storage.errors import Fenced
from storage.hdfs import Hdfs
from storage.landed import position
from storage.layout import BUCKET, Layout, visible
from storage.sink.epochs import Epoch, Step, claim_epoch, claim_steps
from tests.support.corners import own_corner

STEPS: tuple[Step, ...] = ("prepared", "numbered", "renamed", "checked", "fenced")
Claim = Generator[Step, None, Epoch]


@pytest.fixture(scope="module")
def fs(cluster_settings: Settings) -> Hdfs:
    return Hdfs(cluster_settings)


@pytest.fixture
def layout(cluster_settings: Settings) -> Layout:
    settings = own_corner(cluster_settings)
    return Layout(settings.hdfs.root, settings.kafka.topic)


def stopped_after(step: Step, fs: Hdfs, layout: Layout) -> Claim:
    """A claimant that sleeps after `step`."""
    steps = claim_steps(fs, layout, 0)
    for done in steps:
        if done == step:
            return steps
    raise AssertionError(f"there is no step {step}")


def awake(steps: Claim) -> Epoch:
    """Lets a claimant go on to the end."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            assert isinstance(end.value, Epoch)
            return end.value


def publish(epoch: Epoch, first: int, last: int) -> None:
    """One file of one byte per offset."""
    name = epoch.layout.file(0, first, last, "avro")
    epoch.create(name.rsplit("/", 1)[-1], [b"x" * (last - first + 1)])
    epoch.publish(name.rsplit("/", 1)[-1], f"{epoch.layout.raw(0)}/{name}")


def published(fs: Hdfs, layout: Layout) -> list[tuple[int, int]]:
    return [(r.first, r.last) for r in visible(fs.names(f"{layout.raw(0)}/b=0000000000"))]


def works(fs: Hdfs, layout: Layout, epoch: Epoch) -> bool:
    """Whether this owner can publish after what there is."""
    start = position(fs, layout, 0)
    publish(epoch, start, start + 9)
    return published(fs, layout)[-1] == (start, start + 9)


def owner_is(fs: Hdfs, layout: Layout, epoch: Epoch) -> bool:
    live = [name for name in fs.names(layout.epochs(0)) if name.startswith("e=")]
    return live == [f"e={epoch.number}"]


def test_a_new_partition_begins_at_0_with_epoch_1(fs: Hdfs, layout: Layout) -> None:
    epoch = claim_epoch(fs, layout, 0)
    assert (epoch.number, position(fs, layout, 0)) == (1, 0)
    publish(epoch, 0, 9)
    assert position(fs, layout, 0) == 10


@pytest.mark.parametrize("step", STEPS)
def test_a_claimant_that_dies_at_any_step_stops_nobody(fs: Hdfs, layout: Layout, step: Step) -> None:
    publish(claim_epoch(fs, layout, 0), 0, 9)
    stopped_after(step, fs, layout).close()
    successor = claim_epoch(fs, layout, 0)
    assert works(fs, layout, successor)
    assert owner_is(fs, layout, successor)
    assert published(fs, layout) == [(0, 9), (10, 19)]
    assert not [name for name in fs.names(layout.epochs(0)) if name.startswith("new-")]


@pytest.mark.parametrize("step", STEPS)
def test_a_claimant_that_sleeps_at_any_step_never_publishes_beside_its_successor(
    fs: Hdfs, layout: Layout, step: Step
) -> None:
    sleeper = stopped_after(step, fs, layout)
    successor = claim_epoch(fs, layout, 0)
    publish(successor, 0, 9)
    try:
        late = awake(sleeper)
    except Fenced:
        assert works(fs, layout, successor)
        return
    if late.is_live():  # it took a number of its own, after the successor's: then that one is out
        assert late.number > successor.number
        with pytest.raises(Fenced):
            publish(successor, 10, 19)
        assert works(fs, layout, late)
    else:
        with pytest.raises(Fenced):
            publish(late, 10, 19)
        assert works(fs, layout, successor)
    assert published(fs, layout) == [(0, 9), (10, 19)]


def test_a_zombie_can_neither_create_nor_publish(fs: Hdfs, layout: Layout) -> None:
    zombie = claim_epoch(fs, layout, 0)
    zombie.create("ready", [b"x"])
    successor = claim_epoch(fs, layout, 0)
    with pytest.raises(Fenced) as fenced:
        zombie.publish("ready", f"{layout.raw(0)}/{layout.file(0, 0, 9, 'avro')}")
    assert (fenced.value.partition, fenced.value.number) == (0, zombie.number)
    with pytest.raises(Fenced):
        zombie.create("another", [b"x"])
    assert published(fs, layout) == []
    assert works(fs, layout, successor)


def test_a_zombie_that_was_writing_does_not_publish_what_it_wrote(fs: Hdfs, layout: Layout) -> None:
    zombie = claim_epoch(fs, layout, 0)
    asleep, wake = threading.Event(), threading.Event()

    def slowly() -> Generator[bytes, None, None]:
        yield b"x" * 100_000
        asleep.set()
        assert wake.wait(60)
        yield b"x" * 100_000

    def write() -> None:
        zombie.create("slow", slowly())
        zombie.publish("slow", f"{layout.raw(0)}/{layout.file(0, 0, 9, 'avro')}")

    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(write)
        assert asleep.wait(60)
        successor = claim_epoch(fs, layout, 0)
        assert works(fs, layout, successor)
        wake.set()
        with pytest.raises(Fenced):
            writing.result(60)
    assert published(fs, layout) == [(0, 9)]


def test_a_number_created_again_does_not_give_its_former_owner_the_folder_back(fs: Hdfs, layout: Layout) -> None:
    claimant = stopped_after("numbered", fs, layout)  # it will take number 1 …
    former = claim_epoch(fs, layout, 0)  # … which this one has already
    former.create("ready", [b"x"])
    assert former.number == 1
    successor = claim_epoch(fs, layout, 0)  # tidies the sleeper's folder away, as that of any dead claimant
    token = fs.names(f"{layout.epochs(0)}/fenced")
    assert token == ["e=1"]
    # The sleeper had its folder under another name, say: what counts is that e=1 exists again.
    fs.mkdirs(f"{layout.epochs(0)}/e=1/some-other-token")
    for attempt in (lambda: former.create("more", [b"x"]), lambda: former.publish("ready", f"{layout.raw(0)}/x")):
        with pytest.raises(Fenced):
            attempt()
    assert works(fs, layout, successor)
    late = awake(claimant)
    assert late.number > successor.number and owner_is(fs, layout, late)


def test_a_sleeper_that_re_creates_a_fenced_number_withdraws(fs: Hdfs, layout: Layout) -> None:
    sleeper = claim_steps(fs, layout, 0)
    assert [next(sleeper), next(sleeper)] == ["prepared", "numbered"]  # it has chosen number 1
    (folder,) = [name for name in fs.names(layout.epochs(0)) if name.startswith("new-")]
    fs.rename(f"{layout.epochs(0)}/{folder}", f"{layout.epochs(0)}/hidden")  # from those who tidy up
    former = claim_epoch(fs, layout, 0)
    former.release()
    fs.rename(f"{layout.epochs(0)}/hidden", f"{layout.epochs(0)}/{folder}")
    assert next(sleeper) == "renamed"
    assert fs.names(layout.epochs(0)) == ["e=1", "fenced"]
    with pytest.raises(Fenced):
        publish(former, 0, 9)
    with pytest.raises(Fenced):
        next(sleeper)
    assert fs.names(layout.epochs(0)) == ["fenced"]
    assert claim_epoch(fs, layout, 0).number == 2


def test_a_released_epoch_publishes_no_more_and_its_number_stays_taken(fs: Hdfs, layout: Layout) -> None:
    former = claim_epoch(fs, layout, 0)
    former.create("left behind", [b"x"])
    former.release()
    former.release()
    with pytest.raises(Fenced):
        publish(former, 0, 9)
    assert fs.names(f"{layout.epochs(0)}/fenced/e=1") == []
    assert claim_epoch(fs, layout, 0).number == 2


def test_a_final_name_that_is_taken_is_no_fencing_but_an_error(fs: Hdfs, layout: Layout) -> None:
    epoch = claim_epoch(fs, layout, 0)
    publish(epoch, 0, 9)
    with pytest.raises(Exception, match="already exists") as raised:
        publish(epoch, 0, 9)
    assert not isinstance(raised.value, Fenced)


def test_an_empty_bucket_left_by_a_crash_does_not_move_the_position(fs: Hdfs, layout: Layout) -> None:
    publish(claim_epoch(fs, layout, 0), BUCKET - 10, BUCKET - 1)
    fs.mkdirs(f"{layout.raw(0)}/b=0000000001")
    assert position(fs, layout, 0) == BUCKET


def test_of_many_at_once_one_ends_owning_and_no_offset_is_published_twice(fs: Hdfs, layout: Layout) -> None:
    rounds, together = 12, 3
    numbers: list[int] = []

    def contend(barrier: threading.Barrier) -> Epoch | None:
        barrier.wait(60)
        try:
            epoch = claim_epoch(fs, layout, 0)
            numbers.append(epoch.number)
            start = position(fs, layout, 0)
            publish(epoch, start, start + 9)
        except Fenced:
            return None
        return epoch

    with ThreadPoolExecutor(together) as pool:
        for _ in range(rounds):
            barrier = threading.Barrier(together)
            contenders = [pool.submit(contend, barrier) for _ in range(together)]
            epochs = [epoch for one in contenders if (epoch := one.result(120)) is not None]
            owners = [epoch for epoch in epochs if epoch.is_live()]
            assert len(owners) == 1
            assert owner_is(fs, layout, owners[0])
            assert works(fs, layout, owners[0])
    assert len(set(numbers)) == len(numbers) >= rounds
    ranges = published(fs, layout)
    assert len(ranges) >= 2 * rounds
    assert all(before[1] + 1 == after[0] for before, after in pairwise(ranges))
