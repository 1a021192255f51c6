"""Limits of what one sender may send: events per key and address, events per request, depth of JSON.

    rates = Rates(settings.collector)                              # once
    seconds = rates.admit(key, ip, events, time.time())            # None: taken; else 429 with Retry-After
    check_size(len(messages), limit); check_depth(payload, limit)  # raise InvalidEvent

Sliding windows: the previous window counts in proportion to its overlap. Counts in memory are kept here, as the limits
library's memory store starts a thread every 10 ms that visits all addresses; in Redis and others, by the library.
"""

from __future__ import annotations

import ipaddress
import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import structlog
from limits import RateLimitItem, parse_many

from infra.errors import ConfigurationError
from infra.settings.collector import Collector
from ingest.errors import InvalidEvent

PAUSE_SECONDS = 5.0  # without counting, after the store of the counts failed
_SWEEP_AT = 10_000
_STORE_TIMEOUT_SECONDS = 0.25
_NESTED = {dict, list}
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Window:
    """Events of the previous window and of this one, and the seconds for which each still counts."""

    before: int
    before_seconds: float
    now: int
    now_seconds: float


class Counters(Protocol):
    """A store of event counts, by limit and name. Times are seconds since 1970."""

    def window(self, limit: RateLimitItem, name: str, now: float) -> Window: ...

    def add(self, limit: RateLimitItem, name: str, events: int, now: float) -> None: ...


class Rates:
    """The rate limits of all keys and addresses. Raises ConfigurationError for a store that can't be used."""

    def __init__(self, settings: Collector, counters: Counters | None = None) -> None:
        rates = settings.rates
        each = _parse(rates.key)
        self._by_key = {name: _parse(key.rate) or each for name, key in settings.write_keys.items()}
        self._other_key, self._by_ip = each, _parse(rates.ip)
        self._is_on = bool(any(self._by_key.values()) or each or self._by_ip)
        self._counters = counters or (_counters(rates.url) if self._is_on else LocalCounters())
        self._lock = threading.Lock()
        self._paused_at = -math.inf

    def admit(self, key: str, ip: str | None, events: int, now: float) -> int | None:
        """Counts the events and returns None if they are within the limits, else the seconds to wait. Never raises.

        A request with more events than a whole window allows is admitted if the window is empty, else it never could
        be. While the store of the counts is away, everything is admitted.
        """
        if not self._is_on:
            return None
        wanted = [(limit, f"key/{key}") for limit in self._by_key.get(key, self._other_key)]
        if ip and self._by_ip:
            wanted += [(limit, f"ip/{_network(ip)}") for limit in self._by_ip]
        with self._lock:
            # Checked under the lock, or each thread that waited for it would wait for the store as well. A clock that
            # was set back ends the pause.
            if 0 <= now - self._paused_at < PAUSE_SECONDS:
                return None
            try:
                return self._admit(wanted, events, now)
            except CountersAwayError as error:
                self._paused_at = now
                _log.warning("rates_not_counted", reason=str(error), seconds=PAUSE_SECONDS)
                return None

    def _admit(self, wanted: Sequence[tuple[RateLimitItem, str]], events: int, now: float) -> int | None:
        waits = [wait(limit, self._counters.window(limit, name, now), events) for limit, name in wanted]
        if any(waits):
            return math.ceil(max(waits))
        for limit, name in wanted:
            self._counters.add(limit, name, min(events, limit.amount), now)
        return None


def wait(limit: RateLimitItem, window: Window, events: int) -> float:
    """Seconds until `events` more fit; 0 when they do now."""
    length, cost = limit.get_expiry(), min(events, limit.amount)
    room = limit.amount - cost
    if math.floor(window.before * window.before_seconds / length) + window.now <= room:
        return 0.0
    if window.now <= room:  # until enough of the previous window has left
        return max(window.before_seconds - length * (room - window.now + 1) / window.before, 0.001)
    # This window has to end, and then enough of it to leave.
    return max(window.now_seconds, 0.0) + max(length * (1 - (room + 1) / window.now), 0.001)


class LocalCounters:
    """Counts in this process's memory; expired ones are swept now and then."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, int, int], tuple[int, int, int, int]] = {}
        self._sweep_at = _SWEEP_AT

    def window(self, limit: RateLimitItem, name: str, now: float) -> Window:
        length = limit.get_expiry()
        number = int(now // length)
        at, before, current, _ = self._counts.get((name, limit.amount, length), (number, 0, 0, length))
        if at != number:
            before, current = (current if at == number - 1 else 0), 0
        left = length - now % length
        return Window(before, left, current, left)

    def add(self, limit: RateLimitItem, name: str, events: int, now: float) -> None:
        length = limit.get_expiry()
        seen = self.window(limit, name, now)
        self._counts[name, limit.amount, length] = (int(now // length), seen.before, seen.now + events, length)
        if len(self._counts) > self._sweep_at:
            self._counts = {key: count for key, count in self._counts.items() if count[0] >= int(now // count[3]) - 1}
            self._sweep_at = max(_SWEEP_AT, 2 * len(self._counts))

    def __len__(self) -> int:
        return len(self._counts)


class CountersAwayError(Exception):
    """The store of the counts does not answer."""


class SharedCounters:
    """Counts in a store that several processes share, by the limits library."""

    def __init__(self, url: str) -> None:
        from limits.errors import ConfigurationError as UnusableStore
        from limits.storage import storage_from_string
        from limits.strategies import SlidingWindowCounterRateLimiter

        timeouts = {"socket_timeout": _STORE_TIMEOUT_SECONDS, "socket_connect_timeout": _STORE_TIMEOUT_SECONDS}
        options = timeouts if url.startswith("redis") else {}
        try:
            self._storage = storage_from_string(url, wrap_exceptions=True, **options)
            self._limiter = SlidingWindowCounterRateLimiter(self._storage)
        except (UnusableStore, NotImplementedError) as error:
            hint = " (pip install 'clickstream[redis]')" if url.startswith("redis") else ""
            raise ConfigurationError([f"CLICKSTREAM_COLLECTOR__RATES__URL: {error}{hint}"]) from error

    def window(self, limit: RateLimitItem, name: str, now: float) -> Window:
        from limits.errors import StorageError

        try:
            before, before_left, current, current_left = self._storage.get_sliding_window(  # type: ignore[union-attr]
                limit.key_for(name), limit.get_expiry()
            )
        except StorageError as error:
            raise CountersAwayError(repr(error.storage_error)) from error
        return Window(before, before_left, current, current_left - limit.get_expiry())

    def add(self, limit: RateLimitItem, name: str, events: int, now: float) -> None:
        from limits.errors import StorageError

        try:
            self._limiter.hit(limit, name, cost=events)
        except StorageError as error:
            raise CountersAwayError(repr(error.storage_error)) from error


def check_size(events: int, limit: int) -> None:
    """Raises InvalidEvent for a request of more than `limit` messages."""
    if events > limit:
        raise InvalidEvent("batch", f"holds more than {limit} events")


def check_depth(payload: Any, limit: int) -> None:
    """Raises InvalidEvent where objects and arrays nest deeper than `limit`; the payload itself is level 1."""
    level: list[Any] = [payload] if payload.__class__ in _NESTED else []
    for _ in range(limit):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if outer.__class__ is dict else outer)
            if inner.__class__ in _NESTED
        ]
        if not level:
            return
    raise InvalidEvent("event", f"nests deeper than {limit} levels")


def _parse(rate: str) -> Sequence[RateLimitItem]:
    return parse_many(rate) if rate else ()


def _counters(url: str) -> Counters:
    return LocalCounters() if url.startswith("memory:") else SharedCounters(url)


@lru_cache(maxsize=16_384)
def _network(ip: str) -> str:
    """The /64 of an IPv6 address, as one sender has a whole /64; an IPv4 address as it is."""
    if ":" not in ip:
        return ip
    try:
        return str(ipaddress.ip_network(f"{ip.partition('%')[0]}/64", strict=False).network_address)
    except ValueError:
        return ip
