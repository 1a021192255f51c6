"""Fixtures of all tests: one home with free ports, and its real servers, each started once per session."""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from infra.settings import Settings
from tests.browser import chromium

if TYPE_CHECKING:
    from playwright.sync_api import Browser

_PORTS = {
    "kafka": ["port", "controller_port"],
    "hdfs": ["port", "http_port", "datanode_port", "datanode_http_port", "datanode_ipc_port"],
    "spark": ["yarn_port", "yarn_http_port", "history_port"],
    "airflow": ["port", "log_port", "trigger_log_port"],
    "collector": ["port"],
    "sink": ["metrics_port"],
    "webapp": ["port"],
}

_OBEYED = ("AIRFLOW", "CLICKSTREAM_", "HADOOP_", "JAVA_", "KAFKA_", "SPARK_")  # prefixes of variables
_OF_SESSIONS = {"SPARK_AUTH_SOCKET_TIMEOUT", "SPARK_BUFFER_SIZE"}  # which a Spark session in this process sets


@pytest.fixture(scope="module", autouse=True)
def _environment_as_it_was() -> Iterator[None]:
    """What a module leaves in the environment, servers that a later one starts would obey."""

    def obeyed() -> dict[str, str]:
        return {
            name: value for name, value in os.environ.items() if name.startswith(_OBEYED) and name not in _OF_SESSIONS
        }

    before = obeyed()
    yield
    assert obeyed() == before


@pytest.fixture(scope="session")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Settings of a fresh home whose ports are free now; nothing runs there yet."""
    ports = free_ports()
    # The end of an hour must not begin a run of its own in the midst of a test.
    return Settings(home=tmp_path_factory.mktemp("home"), **ports | {"airflow": ports["airflow"] | {"schedule": ""}})


@pytest.fixture(scope="session")
def cluster_settings(settings: Settings) -> Iterator[Settings]:
    """The same settings with a real Kafka broker, NameNode and DataNode running."""
    from infra.services.cluster import Cluster

    cluster = Cluster(settings, only=["kafka", "namenode", "datanode"])
    try:
        cluster.up()
        yield settings
    finally:
        Cluster(settings).down()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """One for the session, since Playwright can't be started twice in a process; skips where there is none."""
    with chromium() as browser:
        yield browser


@pytest.fixture
def shared_data() -> Path:
    """The folder of real data beside a checkout; tests that need it skip where it is absent."""
    folder = Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}")
    return folder


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


def pytest_configure() -> None:
    """No test reads the settings of whoever runs it."""
    for name in [name for name in os.environ if name.startswith("CLICKSTREAM_")]:
        del os.environ[name]
