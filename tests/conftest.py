"""Fixtures of all tests: one home with free ports, and its real servers, each started once per session."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from infra.settings import Settings
from tests.support.browser import chromium
from tests.support.ports import free_ports

if TYPE_CHECKING:
    from playwright.sync_api import Browser


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


# What takes longest begins first, so that no process is left with it at the end. The rest keeps its order, but unit
# tests come last: they fill what is left.
_FIRST = (
    "e2e/test_demo.py",
    "integration/test_jobs.py",
    "integration/test_click_models.py",
    "integration/test_erase.py",
    "integration/test_sink.py",
    "integration/test_training.py",
    "integration/test_examples.py",
    "faults/test_sink_killed.py",
    "faults/test_sink_servers.py",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--times", type=Path, help="a file to which seconds and name of each test file are appended")


def pytest_configure() -> None:
    """No test reads the settings of whoever runs it."""
    for name in [name for name in os.environ if name.startswith("CLICKSTREAM_")]:
        del os.environ[name]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files by how long they take, for --no-loadscope-reorder."""

    def place(item: pytest.Item) -> tuple[bool, int]:
        file = item.path.relative_to(Path(__file__).parent).as_posix()
        return file.startswith("unit/"), _FIRST.index(file) if file in _FIRST else len(_FIRST)

    items.sort(key=place)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """The ten slowest files, in seconds of one process."""
    if hasattr(config, "workerinput"):
        return
    seconds: Counter[str] = Counter()
    for report in chain(*terminalreporter.stats.values()):
        if isinstance(report, pytest.TestReport):
            seconds[report.nodeid.partition("::")[0]] += report.duration
    if len(seconds) > 1:
        terminalreporter.section("slowest files")
        for file, took in seconds.most_common(10):
            terminalreporter.write_line(f"{took:7.1f} s  {file}")
    if times := config.getoption("--times"):
        with times.open("a") as out:
            out.writelines(f"{took:7.1f} s  {file}\n" for file, took in seconds.items())
