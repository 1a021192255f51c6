"""Which requests to erase somebody are looked at again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from processing.events.erasure import due
from storage.upkeep.erasure_requests import Request

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)


def erased(hours: float) -> Request:
    at = NOW - timedelta(hours=hours)
    return Request("r", "2026-11-28T00:00:00+00:00", erased_at=at.isoformat())


def test_requests_come_again_when_the_pause_has_passed_and_new_ones_do_not() -> None:
    requests = [Request("new", "2026-11-28T00:00:00+00:00"), erased(11.9), erased(12), erased(21)]
    assert due(requests, timedelta(hours=12), NOW) == requests[2:]
