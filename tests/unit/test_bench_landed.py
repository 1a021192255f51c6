"""Synthetic events are what a decoder finds in them: their own ids, few visitors, visits of twenty minutes."""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from ingest.event.codec import FINGERPRINT, decode
from processing.bench.jobs.landed import DAYS, encoded


def test_every_body_is_an_event_of_its_own() -> None:
    numbers = np.arange(1_000)
    bodies = [body for some in encoded(numbers, visitors=40) for body in some]
    events = [decode(b"\xc3\x01" + FINGERPRINT + body) for body in bodies]
    assert len({event.event_id for event in events}) == 1_000
    assert len({event.anonymous_id for event in events}) == 40
    times: dict[str | None, list[int]] = defaultdict(list)
    for event in events:
        times[event.anonymous_id].append(event.occurred_at)
    spread = max(map(max, times.values())) - min(map(min, times.values()))
    assert 0.8 * DAYS < spread / 86_400_000 <= DAYS + 1
    visits = sum(
        sum(later - earlier > 30 * 60_000 for earlier, later in zip(sorted(own), sorted(own)[1:], strict=False)) + 1
        for own in times.values()
    )
    assert 100 < visits <= 160
    assert [body for some in encoded(numbers, visitors=40) for body in some] == bodies
