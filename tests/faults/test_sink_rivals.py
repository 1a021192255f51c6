"""Several sinks for the same partitions: heirs of one, two that are both told to own them, members that come and go."""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from infra.settings import Settings
from tests.support.proof import proved
from tests.support.servers import RunningSink
from tests.support.sinks import corner, landed, load, sink_process, stop_all, with_sink
from tests.support.waiting import eventually

STORM_SECONDS = 60


def test_two_successors_at_once_of_a_killed_owner_share_what_it_left(cluster_settings: Settings) -> None:
    place = corner(cluster_settings, partitions=4, max_age_seconds=0.5)
    with load(place.settings, 4) as producing:
        with sink_process(place.settings) as owner:
            eventually(lambda: len(place.files(place.layout, 3)) > 1, worker=owner)
        with sink_process(place.settings) as one, sink_process(place.settings) as other:
            eventually(lambda: all(sink.said("published") for sink in (one, other)))
            sent = producing.stop()
            landed(place, "all", worker=one)
            stop_all([one, other])
    shares = [len(sink.said("published")) for sink in (one, other)]
    print(f"\nkilled the owner; its heirs published {shares} files: {proved(place, sent)}")


def test_two_sinks_that_are_both_told_to_own_the_partitions_fence_each_other_and_land_once(
    cluster_settings: Settings,
) -> None:
    place = corner(cluster_settings, partitions=2, max_age_seconds=0.5)
    rival = with_sink(place.settings, group=f"{place.settings.sink.group}-rival")  # a group knows only its own
    with (
        load(place.settings, 2) as producing,
        sink_process(place.settings) as one,
        sink_process(rival) as other,
    ):
        eventually(lambda: all(sink.said("rejoining") for sink in (one, other)))
        began = len(place.files(place.layout, 0))
        eventually(lambda: len(place.files(place.layout, 0)) > began + 3)  # they go on while they fight
        sent = producing.stop()
        landed(place, "all", worker=one)
        stop_all([one, other])
    fenced = [len(sink.said("rejoining")) for sink in (one, other)]
    print(f"\ntwo owners, fenced {fenced} times: {proved(place, sent)}")


@pytest.mark.cluster
def test_members_that_join_and_leave_each_second_under_load_lose_and_double_nothing(
    cluster_settings: Settings,
) -> None:
    place = corner(cluster_settings, partitions=4, max_age_seconds=1.0)
    left: list[RunningSink] = []
    leaving: list[Future[None]] = []
    with load(place.settings, 4) as producing, ThreadPoolExecutor(8) as pool:
        members = [RunningSink(place.settings)]
        try:
            deadline = time.monotonic() + STORM_SECONDS
            while time.monotonic() < deadline:
                members.append(RunningSink(place.settings))
                if len(members) > 3:
                    left.append(members.pop(0))
                    leaving.append(pool.submit(left[-1].stop))
                time.sleep(1)
            sent = producing.stop()
            landed(place, "all", worker=members[-1])
        finally:
            leaving += [pool.submit(member.stop) for member in members]
        for one in leaving:
            one.result(120)
    failures = [member.failure for member in [*left, *members] if member.failure]
    print(f"\n{len(left) + len(members)} members came and went, failures {failures}: {proved(place, sent)}")
    assert not failures
