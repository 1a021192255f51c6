"""The collector's Prometheus metrics, of one process or of all workers of a server.

Workers share them in prometheus_client's files (see infra.web.serving.shared_metrics), so any of them can be scraped.
The spool, which they share anyway, is read at each scrape.
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

from ingest.delivery.publisher import PublisherState, Way

_REFRESH_SECONDS = 1.0
_PREFIX = "clickstream_collector_"


class CollectorMetrics:
    """`clickstream_collector_…`.

    Events are counted by outcome: accepted, filtered, rejected, quarantined, unavailable, limited. A request refused as
    a whole counts once: unauthorized, forbidden, malformed. `key` is a write key's name, "" if there is none.
    """

    def __init__(self, state: Callable[[], PublisherState], folder: Path | None = None) -> None:
        """`folder`: where the workers share their metrics; None for a single process."""
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
        """Counts the outcomes of a request's events."""
        for outcome, events in outcomes.items():
            if events:
                self._events(outcome, protocol, key).inc(events)
        for what, times in rules.items():
            self._rules.labels(what).inc(times)

    def answered(self, endpoint: str, protocol: str, key: str, status: int, seconds: float) -> None:
        """Observes a response."""
        self._requests(endpoint, protocol, key, status).observe(seconds)

    def durable(self, way: Way, seconds: float) -> None:
        """Observes the time until a request's records were durable."""
        self._durable(way).observe(seconds)

    def render(self) -> bytes:
        """The metrics in Prometheus's text format."""
        self._refresh()
        if self._folder is not None:
            for pid in {int(file.stem.rpartition("_")[2]) for file in self._folder.glob("gauge_live*.db")}:
                if not psutil.pid_exists(pid):
                    mark_process_dead(pid, str(self._folder))  # type: ignore[no-untyped-call]
        return generate_latest(self._registry)

    def follow(self) -> None:
        """Updates this process's gauges for scrapes of other workers. Never returns."""
        while True:
            self._refresh()
            time.sleep(_REFRESH_SECONDS)

    def _refresh(self) -> None:
        state = self._state()
        self._queue.set(state.queued)
        self._in_flight.set(state.in_flight)
        self._kafka_up.set(state.kafka_up)


class _Spool(Collector):
    """Metrics of the spool."""

    def __init__(self, state: Callable[[], PublisherState]) -> None:
        self._state = state

    def collect(self) -> Iterator[Metric]:
        state = self._state()
        yield GaugeMetricFamily(f"{_PREFIX}spool_records", "Records that wait for Kafka.", state.spooled)
        yield GaugeMetricFamily(f"{_PREFIX}spool_bytes", "Bytes of the spool in use.", state.spooled_bytes)
        yield GaugeMetricFamily(f"{_PREFIX}spool_oldest_seconds", "Age of its oldest record.", state.oldest_seconds)
