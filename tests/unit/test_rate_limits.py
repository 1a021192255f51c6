"""How much a sender may send."""

from __future__ import annotations

from typing import Any

import pytest
from limits import RateLimitItem, parse

from infra.errors import ConfigurationError
from infra.settings.collector import Collector
from ingest.errors import InvalidEvent
from ingest.policy.rate_limits import (
    PAUSE_SECONDS,
    CountersAwayError,
    LocalCounters,
    Rates,
    SharedCounters,
    Window,
    check_depth,
    check_size,
)

NOW = 1_795_245_560.0  # a minute begins 20 s before


def rates(counters: Any = None, **settings: Any) -> Rates:
    return Rates(Collector.model_validate(settings), counters)


def test_without_limits_everything_comes_in() -> None:
    off = rates(write_keys={"a": "s"})
    assert all(off.admit("a", "203.0.113.9", 1_000_000, NOW) is None for _ in range(10))


def test_a_key_may_send_so_many_events_and_then_has_to_wait() -> None:
    limited = rates(rates={"key": "100/minute"})
    assert limited.admit("demo", None, 60, NOW) is None
    assert limited.admit("demo", None, 40, NOW) is None
    assert limited.admit("other", None, 100, NOW) is None, "each key for itself"
    seconds = limited.admit("demo", None, 10, NOW)
    assert seconds is not None
    assert limited.admit("demo", None, 10, NOW + seconds - 1.5) is not None
    assert limited.admit("demo", None, 10, NOW + seconds) is None


def test_what_is_refused_is_not_counted() -> None:
    limited = rates(rates={"key": "100/minute"})
    assert limited.admit("demo", None, 90, NOW) is None
    for _ in range(50):
        assert limited.admit("demo", None, 20, NOW) is not None
    assert limited.admit("demo", None, 10, NOW) is None


@pytest.mark.parametrize("batch", [1, 7, 50])
@pytest.mark.parametrize("rate", [10, 50])
def test_whoever_waits_as_told_gets_what_the_rate_gives(batch: int, rate: int) -> None:
    limited = rates(rates={"key": f"{rate}/second"})
    now, sent = NOW, 0
    while now < NOW + 200:
        seconds = limited.admit("demo", None, batch, now)
        if seconds is None:
            sent += batch
            now += 0.01
        else:
            assert 1 <= seconds <= 3
            now += seconds
    cost = min(batch, rate) / batch  # a batch beyond the window counts as the window
    assert 0.3 * rate * 200 <= sent * cost <= 1.1 * rate * 200


def test_a_batch_larger_than_the_window_still_comes_in_once_it_is_empty() -> None:
    limited = rates(rates={"key": "10/second"})
    assert limited.admit("demo", None, 500, NOW) is None
    assert limited.admit("demo", None, 1, NOW) is not None
    assert limited.admit("demo", None, 500, NOW + 2) is None


def test_a_keys_own_rate_replaces_the_general_one() -> None:
    limited = rates(write_keys={"a": "s", "b": {"secret": "t", "rate": "5/minute"}}, rates={"key": "2/minute"})
    assert [limited.admit("a", None, 1, NOW) is None for _ in range(4)] == [True, True, False, False]
    assert [limited.admit("b", None, 1, NOW) is None for _ in range(6)] == [True] * 5 + [False]


def test_several_limits_hold_together() -> None:
    limited = rates(rates={"key": "5/second; 8/minute"})
    assert limited.admit("demo", None, 5, NOW) is None
    assert limited.admit("demo", None, 1, NOW) is not None
    assert limited.admit("demo", None, 3, NOW + 2) is None
    assert (limited.admit("demo", None, 1, NOW + 4) or 0) > 20, "the minute's"


def test_each_address_has_a_limit_whatever_its_key() -> None:
    limited = rates(rates={"ip": "2/minute"})
    assert limited.admit("a", "203.0.113.9", 1, NOW) is None
    assert limited.admit("b", "203.0.113.9", 1, NOW) is None
    assert limited.admit("b", "203.0.113.9", 1, NOW) is not None
    assert limited.admit("b", "203.0.113.8", 1, NOW) is None
    assert limited.admit("b", None, 9, NOW) is None


def test_addresses_of_one_ipv6_network_are_one_sender() -> None:
    limited = rates(rates={"ip": "2/minute"})
    answers = [limited.admit("a", f"2001:db8:1:2::{n:x}", 1, NOW) is None for n in range(4)]
    assert answers == [True, True, False, False]
    assert limited.admit("a", "2001:db8:1:3::1", 1, NOW) is None
    assert limited.admit("a", "no:address", 1, NOW) is None


def test_a_limit_of_the_address_takes_nothing_from_the_key() -> None:
    limited = rates(rates={"ip": "1/minute", "key": "2/minute"})
    assert limited.admit("a", "203.0.113.9", 1, NOW) is None
    for _ in range(5):
        assert limited.admit("a", "203.0.113.9", 1, NOW) is not None
    assert limited.admit("a", "203.0.113.8", 1, NOW) is None


def test_addresses_that_no_longer_count_are_forgotten() -> None:
    counters = LocalCounters()
    limited = rates(counters, rates={"ip": "5/second"})
    for number in range(25_000):
        limited.admit("a", f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", 1, NOW + number / 50)
    assert len(counters) <= 10_001


class Away:
    """A store of counts that does not answer; `calls` counts who asked."""

    def __init__(self) -> None:
        self.calls = 0

    def window(self, limit: RateLimitItem, name: str, now: float) -> Window:
        self.calls += 1
        raise CountersAwayError("no connection")

    def add(self, limit: RateLimitItem, name: str, events: int, now: float) -> None:
        raise AssertionError("nothing was admitted by count")


def test_while_the_store_is_away_events_come_in_and_it_is_not_asked_each_time() -> None:
    away = Away()
    limited = rates(away, rates={"key": "1/minute"})
    assert all(limited.admit("a", None, 5, NOW + step / 100) is None for step in range(100))
    assert away.calls == 1
    assert limited.admit("a", None, 5, NOW + PAUSE_SECONDS) is None
    assert away.calls == 2


def test_a_clock_that_is_set_back_leaves_nobody_uncounted_for_long() -> None:
    away = Away()
    limited = rates(away, rates={"key": "1/minute"})
    assert limited.admit("a", None, 5, NOW) is None
    assert limited.admit("a", None, 5, NOW - 3600) is None
    assert away.calls == 2


def test_the_librarys_store_gives_the_same_windows() -> None:
    import time

    limit = parse("7/minute")
    shared, local = SharedCounters("memory://"), LocalCounters()
    now = time.time()
    for counters in (shared, local):
        counters.add(limit, "a", 3, now)
        counters.add(limit, "a", 2, now)
    ours, theirs = local.window(limit, "a", now), shared.window(limit, "a", now)
    assert (ours.before, ours.now) == (theirs.before, theirs.now) == (0, 5)
    assert theirs.now_seconds == pytest.approx(ours.now_seconds, abs=2)


def test_a_redis_that_is_not_there_is_away() -> None:
    with pytest.raises(CountersAwayError):
        SharedCounters("redis://127.0.0.1:1").window(parse("1/minute"), "a", NOW)


@pytest.mark.parametrize("url", ["nonsense://x", "etcd"])
def test_a_store_that_nobody_knows_is_an_error_at_start(url: str) -> None:
    with pytest.raises(ConfigurationError, match="RATES__URL"):
        rates(rates={"key": "1/minute", "url": url})


def nested(depth: int, inner: Any = 1) -> Any:
    for level in range(depth):
        inner = {"x": inner, "y": 1} if level % 2 else [inner, 2]
    return inner


def test_depth_is_limited_and_the_payload_is_level_one() -> None:
    check_depth(nested(5), 5)
    check_depth(7, 2)
    with pytest.raises(InvalidEvent, match="5 levels"):
        check_depth(nested(6), 5)
    with pytest.raises(InvalidEvent):
        check_depth(nested(100_000), 32)


def test_the_number_of_events_is_limited() -> None:
    check_size(10, 10)
    with pytest.raises(InvalidEvent, match="more than 10 events") as raised:
        check_size(11, 10)
    assert raised.value.field == "batch"
