"""The platform's own processes: collector, sink and web app."""

from __future__ import annotations

import sys
from pathlib import Path

from infra.services.service import Service, http_problem
from infra.settings import Settings


def services(settings: Settings) -> list[Service]:
    """Collector, sink and web app, each `clickstream NAME` of this very environment."""
    executable = str(Path(sys.executable).with_name("clickstream"))
    collector, sink, webapp = settings.collector, settings.sink, settings.webapp
    return [
        Service(
            "collector",
            lambda: http_problem(f"{collector.address}/health"),
            [executable, "collector"],
            {"COLLECTOR__PORT": collector.port},
            collector.host,
            after=["kafka"],
        ),
        Service(
            "sink",
            lambda: http_problem(f"http://127.0.0.1:{sink.metrics_port}/metrics"),
            [executable, "sink"],
            {"SINK__METRICS_PORT": sink.metrics_port},
            after=["kafka", "datanode" if settings.hdfs.managed else "namenode"],
        ),
        Service(
            "webapp",
            lambda: http_problem(f"{webapp.address}/health"),
            [executable, "webapp"],
            {"WEBAPP__PORT": webapp.port},
            webapp.host,
            after=["datanode" if settings.hdfs.managed else "namenode"],
        ),
    ]
