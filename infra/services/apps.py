"""The platform's own processes: collector, sink and web app."""

from __future__ import annotations

import sys
from pathlib import Path

import requests

from infra.services.service import Service, http_problem
from infra.settings import Settings

_OWNED = "clickstream_sink_partitions"


def services(settings: Settings) -> list[Service]:
    """Collector, sink and web app, each `clickstream NAME` of this very environment."""
    executable = str(Path(sys.executable).with_name("clickstream"))
    collector, sink, webapp = settings.collector, settings.sink, settings.webapp
    return [
        Service(
            "collector",
            lambda: http_problem(f"{collector.address}/readyz", verify=collector.verify),
            [executable, "collector"],
            {"COLLECTOR__PORT": collector.port},
            collector.host,
            after=["kafka"],
            reloads=True,
        ),
        *[_sink(settings, executable, number) for number in range(1, sink.processes + 1)],
        Service(
            "webapp",
            lambda: http_problem(f"{webapp.address}/health"),
            [executable, "webapp"],
            {"WEBAPP__PORT": webapp.port},
            webapp.host,
            after=["datanode" if settings.hdfs.managed else "namenode"],
            reloads=True,
        ),
    ]


def _sink(settings: Settings, executable: str, number: int) -> Service:
    port = settings.sink.process(number).metrics_port
    return Service(
        "sink" if number == 1 else f"sink-{number}",
        lambda: _sink_problem(f"http://127.0.0.1:{port}/metrics"),
        [executable, "sink", "--number", str(number)],
        {"SINK__METRICS_PORT": port},
        after=["kafka", "datanode" if settings.hdfs.managed else "namenode"],
    )


def _sink_problem(url: str) -> str | None:
    """A sink is well once it owns partitions: before that it lands nothing."""
    from prometheus_client.parser import text_string_to_metric_families  # see infra.web.serving.shared_metrics

    try:
        families = text_string_to_metric_families(requests.get(url, timeout=3).text)
    except requests.RequestException as error:
        return f"{url}: {type(error).__name__}"
    owned = [sample.value for family in families for sample in family.samples if sample.name == _OWNED]
    return None if owned and owned[0] > 0 else "owns no partition yet"
