"""A sink whose wall clock jumps, as NTP may set it: it goes on, and lands everything once."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.settings import Settings
from tests.support.clock import Clock
from tests.support.proof import proved
from tests.support.sinks import corner, goes_on, landed, load, sink_process


@pytest.mark.cluster
def test_a_clock_that_jumps_neither_stops_nor_doubles_anything(cluster_settings: Settings, tmp_path: Path) -> None:
    clock = Clock(tmp_path)
    place = corner(cluster_settings, partitions=2, max_age_seconds=0.5)  # an age that a jump could make too large
    with load(place.settings, 2) as producing:
        with sink_process(place.settings, **clock.environment) as sink:
            for behind in (0, 2, 3, 1, 0):
                clock.set(behind)
                goes_on(place, worker=sink)
            told = {line["timestamp"][:13] for line in sink.said("published")}
            sent = producing.stop()
            landed(place, "all", worker=sink)
        assert len(told) > 3, "the clock has jumped"
    print(f"\nhours told: {sorted(told)}; {proved(place, sent)}")
