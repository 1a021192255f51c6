"""The collector's numbers for Prometheus: of one process, or of all workers of one server together.

Several workers share them through files of prometheus_client's (see infra.serving.shared_metrics); whichever is scraped
tells those of all. What they share anyway, the spool, is looked at when it is scraped.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path

import psutil
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector

from ingest.publisher import PublisherState, Way

_REFRESH_SECONDS = 1.0
_PREFIX = "clickstream_collector_"


class CollectorMetrics:
    """`clickstream_collector_…`.

    Events are counted by outcome: accepted, filtered, rejected, quarantined, unavailable, limited; and requests that
    were refused as a whole, one each: unauthorized, forbidden, malformed. `key` is a write key's name, "" for none.
    """

    def __init__(self, state: Callable[[], PublisherState], folder: Path | None = None) -> None:
        """`folder`: where the workers share their numbers; None: there is just this process."""
        own, self._state, self._folder = CollectorRegistry(), state, folder
        # Each look-up of a series by its labels costs as much as counting.
        self._events = cache(
            Counter(
                f"{_PREFIX}events_total",
                "Events and log lines by what became of them.",
                ["outcome", "protocol", "key"],
                registry=own,
            ).labels
        )
        self._rules = Counter(
            f"{_PREFIX}rules_total",
            "What the rules of privacy and the tracking plan did: anonymous, dropped, hashed, against_plan.",
            ["what"],
            registry=own,
        )
        self._requests = cache(
            Histogram(
                f"{_PREFIX}request_duration_seconds",
                "Time to answer.",
                ["endpoint", "protocol", "key", "status"],
                registry=own,
            ).labels
        )
        self._durable = cache(
            Histogram(
                f"{_PREFIX}durable_seconds",
                "Time until a request's events were durable, in Kafka or in the spool.",
                ["way"],
                registry=own,
            ).labels
        )
        self._in_flight = Gauge(
            f"{_PREFIX}in_flight_requests",
            "Requests that wait for Kafka.",
            registry=own,
            multiprocess_mode="livesum",
        )
        self._queue = Gauge(
            f"{_PREFIX}producer_queue_records",
            "Records sent and not yet acknowledged.",
            registry=own,
            multiprocess_mode="livesum",
        )
        self._kafka_up = Gauge(
            f"{_PREFIX}kafka_up", "1 when Kafka takes records.", registry=own, multiprocess_mode="livemin"
        )
        self._registry = own if folder is None else CollectorRegistry()
        if folder is not None:
            MultiProcessCollector(self._registry, str(folder))  # type: ignore[no-untyped-call]
        self._registry.register(_Spool(state))

    def count(self, protocol: str, key: str, outcomes: Mapping[str, int], rules: Mapping[str, int] = {}) -> None:
        """Adds what became of a request's events."""
        for outcome, events in outcomes.items():
            if events:
                self._events(outcome, protocol, key).inc(events)
        for what, times in rules.items():
            self._rules.labels(what).inc(times)

    def answered(self, endpoint: str, protocol: str, key: str, status: int, seconds: float) -> None:
        """Adds an answer."""
        self._requests(endpoint, protocol, key, status).observe(seconds)

    def durable(self, way: Way, seconds: float) -> None:
        """Adds a publication."""
        self._durable(way).observe(seconds)

    def render(self) -> bytes:
        """The text that Prometheus scrapes."""
        self._refresh()
        if self._folder is not None:
            for pid in {int(file.stem.rpartition("_")[2]) for file in self._folder.glob("gauge_live*.db")}:
                if not psutil.pid_exists(pid):
                    mark_process_dead(pid, str(self._folder))  # type: ignore[no-untyped-call]
        return generate_latest(self._registry)

    def follow(self) -> None:
        """Keeps the numbers of this process up to date for when another is scraped. Never returns."""
        while True:
            self._refresh()
            time.sleep(_REFRESH_SECONDS)

    def _refresh(self) -> None:
        state = self._state()
        self._queue.set(state.queued)
        self._in_flight.set(state.in_flight)
        self._kafka_up.set(state.kafka_up)


class _Spool(Collector):
    """What waits on disk."""

    def __init__(self, state: Callable[[], PublisherState]) -> None:
        self._state = state

    def collect(self) -> Iterator[Metric]:
        state = self._state()
        yield GaugeMetricFamily(f"{_PREFIX}spool_records", "Records that wait for Kafka.", state.spooled)
        yield GaugeMetricFamily(f"{_PREFIX}spool_bytes", "Bytes of the spool in use.", state.spooled_bytes)
        yield GaugeMetricFamily(f"{_PREFIX}spool_oldest_seconds", "Age of its oldest record.", state.oldest_seconds)
