"""Whether a batch is of its usual size, and new."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from processing.tables import quality

NOON = datetime(2026, 5, 17, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("now", "weeks", "wrong"),
    [
        (1_000, [900, 1_100], False),
        (99, [1_000, 1_000], True),
        (100, [1_000, 1_000], False),
        (0, [1_000], True),
        (10_001, [1_000], True),
        (0, [99], False),  # chance
        (1_000_000, [], False),  # nothing to compare with
        (150, [0], False),  # after an idle week
        (1_000, [0, 900, 0], False),
        (20_000, [0, 900, 0], True),
    ],
)
def test_a_batch_out_of_proportion_to_the_weeks_before_is_found(now: int, weeks: list[int], wrong: bool) -> None:
    found = quality.volume(now, weeks, factor=10.0)
    assert bool(found) == wrong
    if found:
        assert str(found[0]).startswith(f"volume: {now:,} events")


def test_a_batch_whose_newest_record_is_old_is_found() -> None:
    assert not quality.freshness(NOON - timedelta(hours=24), NOON, 24.0)
    assert not quality.freshness(None, NOON, 24.0)
    [found] = quality.freshness(NOON - timedelta(hours=25), NOON, 24.0)
    assert "2026-05-16T11:00:00+00:00" in str(found)
