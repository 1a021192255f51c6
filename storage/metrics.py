"""The sink's numbers for Prometheus, in a registry of their own, so that each sink of a test has its own."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from infra.errors import ConfigurationError
from storage.partition import Sealed


class SinkMetrics:
    """Counters are per topic; gauges per partition."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        name, registry = "clickstream_sink", self.registry
        self.offsets = Counter(f"{name}_offsets_total", "Offsets published", ["topic", "outcome"], registry=registry)
        self.bytes = Counter(f"{name}_bytes_total", "Bytes of files published", ["topic"], registry=registry)
        self.files = Counter(f"{name}_files_total", "Files published", ["topic", "reason"], registry=registry)
        self.lag = Gauge(
            f"{name}_lag_records", "Offsets in Kafka, not yet published", ["topic", "partition"], registry=registry
        )
        self.open_bytes = Gauge(f"{name}_open_bytes", "Bytes in memory, not yet published", registry=registry)
        self.owned = Gauge(f"{name}_partitions", "Partitions owned", registry=registry)
        self.rejoins = Counter(f"{name}_rejoins_total", "Left the group to begin anew", registry=registry)
        self.publish_seconds = Histogram(
            f"{name}_publish_seconds", "From closing a file to its final name", registry=registry
        )

    def published(self, topic: str, sealed: Sealed) -> None:
        """Counts a file that has its final name."""
        info = sealed.info
        outcomes = {"landed": info.records, "quarantined": sum(b - a + 1 for a, b in info.quarantined)}
        for first, last, reason in info.gaps:
            outcome = "lost" if reason == "lost" else "explained"
            outcomes[outcome] = outcomes.get(outcome, 0) + last - first + 1
        for outcome, count in outcomes.items():
            self.offsets.labels(topic, outcome).inc(count)
        self.bytes.labels(topic).inc(sealed.size)
        self.files.labels(topic, sealed.why).inc()

    def serve(self, port: int) -> None:
        """Answers Prometheus on `port` of all interfaces. Raises ConfigurationError when it is taken."""
        try:
            start_http_server(port, registry=self.registry)
        except OSError as error:
            raise ConfigurationError([f"CLICKSTREAM_SINK__METRICS_PORT: port {port}: {error}"]) from error
