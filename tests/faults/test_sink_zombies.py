"""A sink that sleeps for longer than its session, while another takes over: when it wakes it publishes nothing."""

from __future__ import annotations

import signal

import pytest

from infra.settings import Settings
from tests.support.corners import produce
from tests.support.events import event
from tests.support.failing_sink import Fault
from tests.support.proof import proved
from tests.support.sinks import SinkProcess, corner, landed, sink_process, stop_all
from tests.support.waiting import eventually

IN_EPOCH = r"/e=\d+/\w+/t"
RECORDS = 4_500
MOMENTS = {
    "idle": None,
    "claiming": Fault("rename", r"/epochs/t\w+/p=00/new-\w+ -> ", signal=signal.SIGSTOP),
    "creating": Fault("create", IN_EPOCH, signal=signal.SIGSTOP),
    "writing": Fault("write", IN_EPOCH, nth=3, signal=signal.SIGSTOP),
    "closing": Fault("close", IN_EPOCH, signal=signal.SIGSTOP),
    "publishing": Fault("rename", r" -> /.*/raw/", signal=signal.SIGSTOP),
    "committing": Fault("commit", r"^t\w+$", signal=signal.SIGSTOP),
}


def asleep(zombie: SinkProcess, moment: str) -> None:
    """Waits until the zombie has stopped itself; one without a fault is stopped while it holds what it has read."""
    if MOMENTS[moment] is None:
        eventually(lambda: bool(zombie.said("published")), worker=zombie)
        zombie.signal(signal.SIGSTOP)
    eventually(zombie.stopped)


def awake(zombie: SinkProcess) -> bool:
    """Whether it has noticed that it is an owner no more."""
    return any(zombie.said(what) for what in ("lost", "fenced", "rejoining"))


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_sink_that_sleeps_longer_than_its_session_publishes_nothing_when_it_wakes(
    cluster_settings: Settings, moment: str
) -> None:
    place = corner(cluster_settings, codec="null", max_records=3_000)
    ids = [f"{n}-{'x' * 300}" for n in range(RECORDS)]
    produce(place.settings, 0, [event(id_) for id_ in ids])
    with sink_process(place.settings, MOMENTS[moment]) as zombie:
        asleep(zombie, moment)
        with sink_process(place.settings) as heir:
            landed(place, "slept", worker=heir)
            files, before = place.files(place.layout, 0), len(zombie.said("published"))
            zombie.signal(signal.SIGCONT)
            eventually(lambda: awake(zombie), worker=zombie)
            assert place.files(place.layout, 0) == files
            more = [f"more {n}" for n in range(500)]
            produce(place.settings, 0, [event(id_) for id_ in more])
            landed(place, "woken", worker=heir)
            stop_all([zombie, heir])
        late = [line["file"] for line in zombie.said("published")[before:]]
        assert all(int(name.split("+")[2]) >= RECORDS for name in late), late  # as a member anew, after its heir's
    noticed = [what for what in ("lost", "fenced", "rejoining") if zombie.said(what)]
    print(f"\nasleep while {moment}, {noticed}: {proved(place, {0: [*ids, *more]})}")
