"""The collector's numbers, in a registry of their own so that two apps in one process don't clash."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from ingest.publisher import PublisherState


class CollectorMetrics:
    """Counts by outcome: accepted, filtered, rejected, quarantined, unavailable, limited; by request those of requests
    that were refused as a whole: unauthorized, forbidden, malformed."""

    def __init__(self, state: Callable[[], PublisherState]) -> None:
        self._registry = CollectorRegistry()
        self.events = Counter(
            "clickstream_collector_events_total",
            "Events and log lines by what became of them.",
            ["outcome", "protocol"],
            registry=self._registry,
        )
        self.rules = Counter(
            "clickstream_collector_rules_total",
            "What the rules of privacy and the tracking plan did: anonymous, dropped, hashed, against_plan.",
            ["what"],
            registry=self._registry,
        )
        self.requests = Histogram(
            "clickstream_collector_request_duration_seconds",
            "Time to answer, until the events are durable.",
            ["endpoint", "status"],
            registry=self._registry,
        )
        spool = Gauge("clickstream_collector_spool_records", "Records that wait for Kafka.", registry=self._registry)
        spool.set_function(lambda: state().spooled)
        kafka_up = Gauge("clickstream_collector_kafka_up", "1 when Kafka takes records.", registry=self._registry)
        kafka_up.set_function(lambda: state().kafka_up)
        used = Gauge("clickstream_collector_spool_bytes", "Bytes of the spool in use.", registry=self._registry)
        used.set_function(lambda: state().spooled_bytes)
        age = Gauge("clickstream_collector_spool_oldest_seconds", "Age of its oldest record.", registry=self._registry)
        age.set_function(lambda: state().oldest_seconds)
        flying = Gauge("clickstream_collector_in_flight", "Records not yet acknowledged.", registry=self._registry)
        flying.set_function(lambda: state().in_flight)

    def render(self) -> bytes:
        """The text that Prometheus scrapes."""
        return generate_latest(self._registry)
