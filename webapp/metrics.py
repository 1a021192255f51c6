"""The web app's Prometheus metrics, in a registry per app, so that one process can have two apps."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram


class Metrics:
    """The app's metrics; each has a help text."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "clickstream_webapp_requests",
            "Requests answered",
            ["endpoint", "status"],
            registry=self.registry,
        )
        self.seconds = Histogram(
            "clickstream_webapp_request_seconds",
            "Seconds to answer a request",
            ["endpoint"],
            registry=self.registry,
        )
        self.carousels = Counter(
            "clickstream_webapp_lists",
            "Lists of items rendered, by where and by where their items come from",
            ["list_id", "source"],
            registry=self.registry,
        )
        self.refreshes = Counter(
            "clickstream_webapp_export_checks",
            "Looks for a new export: loaded, unchanged, absent or failed",
            ["outcome"],
            registry=self.registry,
        )
        self.items = Gauge("clickstream_webapp_export_items", "Items of the export in service", registry=self.registry)
        self.visitors = Gauge(
            "clickstream_webapp_export_visitors",
            "Visitors of the export in service",
            registry=self.registry,
        )
        self.loaded_at = Gauge(
            "clickstream_webapp_export_loaded_timestamp_seconds",
            "When the export in service was loaded",
            registry=self.registry,
        )
