"""The sink's Prometheus metrics, in a registry per sink, so that a test may run several."""

from __future__ import annotations

from contextlib import suppress

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from infra.errors import ConfigurationError
from storage.sink.writer import Sealed


class SinkMetrics:
    """Counters by topic, gauges by partition."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        name, registry = "clickstream_sink", self.registry
        self.offsets = Counter(f"{name}_offsets_total", "Offsets published", ["topic", "outcome"], registry=registry)
        self.bytes = Counter(f"{name}_bytes_total", "Bytes of files published", ["topic"], registry=registry)
        self.files = Counter(f"{name}_files_total", "Files published", ["topic", "reason"], registry=registry)
        self.lag = Gauge(
            f"{name}_lag_records", "Offsets in Kafka, not yet published", ["topic", "partition"], registry=registry
        )
        self.lag_seconds = Gauge(
            f"{name}_lag_seconds",
            "Age of the oldest record that was read and not yet published",
            ["topic", "partition"],
            registry=registry,
        )
        self.open_files = Gauge(f"{name}_open_files", "Files in memory", registry=registry)
        self.open_bytes = Gauge(f"{name}_open_bytes", "Bytes in memory, not yet published", registry=registry)
        self.owned = Gauge(f"{name}_partitions", "Partitions owned", registry=registry)
        self.rejoins = Counter(f"{name}_rejoins_total", "Left the group to begin anew", registry=registry)
        self.rebalances = Counter(
            f"{name}_rebalances_total", "Partitions were assigned, revoked or lost", ["what"], registry=registry
        )
        self.publish_seconds = Histogram(
            f"{name}_publish_seconds", "From closing a file to its final name", registry=registry
        )

    def published(self, topic: str, sealed: Sealed) -> None:
        """Counts a published file."""
        info = sealed.info
        outcomes = {"landed": info.records, "quarantined": sum(b - a + 1 for a, b in info.quarantined)}
        for first, last, reason in info.gaps:
            outcome = "lost" if reason == "lost" else "explained"
            outcomes[outcome] = outcomes.get(outcome, 0) + last - first + 1
        for outcome, count in outcomes.items():
            self.offsets.labels(topic, outcome).inc(count)
        self.bytes.labels(topic).inc(sealed.size)
        self.files.labels(topic, sealed.why).inc()

    def forget(self, partition: tuple[str, int]) -> None:
        """Removes the gauges of a partition that is no longer owned."""
        for gauge in (self.lag, self.lag_seconds):
            with suppress(KeyError):
                gauge.remove(*partition)

    def landed(self) -> tuple[int, int]:
        """(offsets published, offsets that Kafka has beyond them)."""
        families = [family for metric in (self.offsets, self.lag) for family in metric.collect()]
        done, behind = (sum(s.value for s in family.samples if not s.name.endswith("_created")) for family in families)
        return int(done), int(behind)

    def serve(self, port: int) -> None:
        """Serves the metrics on `port` of all interfaces. Raises ConfigurationError if it is taken."""
        try:
            start_http_server(port, registry=self.registry)
        except OSError as error:
            raise ConfigurationError([f"CLICKSTREAM_SINK__METRICS_PORT: port {port}: {error}"]) from error
