"""Ports that nobody else of this run is given."""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Iterator
from contextlib import suppress

_PORTS = {
    "kafka": ["port", "controller_port"],
    "hdfs": ["port", "http_port", "datanode_port", "datanode_http_port", "datanode_ipc_port"],
    "spark": ["yarn_port", "yarn_http_port", "history_port"],
    "airflow": ["port", "log_port", "trigger_log_port"],
    "collector": ["port"],
    "sink": ["metrics_port"],
    "webapp": ["port"],
}


def free_ports() -> dict[str, dict[str, int]]:
    """section -> field -> a port that is free now, and that no other home of this run was given or will be."""
    return {section: {field: _free_port() for field in fields} for section, fields in _PORTS.items()}


def _free_port() -> int:
    for port in _PORTS_LEFT:
        with socket.socket() as probe, suppress(OSError):  # taken
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no port is left")


def _share_of_ports() -> Iterator[int]:
    """This process's share, in any order, of ports that no outgoing connection may be given."""
    worker, workers = os.environ.get("PYTEST_XDIST_WORKER", "gw0"), os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")
    share = range(20_000 + int(worker.removeprefix("gw")), 32_000, int(workers))
    return iter(random.sample(share, len(share)))


_PORTS_LEFT = _share_of_ports()
