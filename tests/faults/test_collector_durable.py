"""What the collector accepted is in Kafka, and what it refused is not, whatever died meanwhile."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from infra.services.cluster import Cluster
from infra.settings import Settings
from tests.conftest import free_ports
from tests.faults.served import Account, balanced, collector, health, load
from tests.waiting import eventually


@pytest.fixture
def kafka(tmp_path: Path) -> Iterator[Cluster]:
    """A broker and a collector of the test's own."""
    settings = Settings(home=tmp_path / "home", **free_ports())
    cluster = Cluster(settings, only=["kafka", "collector"])
    try:
        cluster.up()
        yield cluster
    finally:
        Cluster(settings).down()


def pid(cluster: Cluster, service: str) -> int:
    return int(cluster.supervisor.states()[service]["pid"])


def test_a_broker_that_is_killed_under_load_and_comes_back(kafka: Cluster) -> None:
    account = Account()
    with load(kafka.settings, account):
        eventually(lambda: len(account.accepted) > 200)
        os.kill(pid(kafka, "kafka"), signal.SIGKILL)
        eventually(lambda: health(kafka.settings)["kafka"] == "down")
        before = len(account.accepted)
        eventually(lambda: len(account.accepted) > before + 200)  # to the spool
        kafka.up()
        eventually(lambda: health(kafka.settings)["kafka"] == "up")
    assert not account.refused
    balanced(kafka.settings, account)


def test_a_broker_that_hangs_and_goes_on(kafka: Cluster) -> None:
    account = Account()
    with load(kafka.settings, account):
        eventually(lambda: len(account.accepted) > 200)
        os.kill(pid(kafka, "kafka"), signal.SIGSTOP)
        try:
            eventually(lambda: health(kafka.settings)["spooled"] > 200)
        finally:
            os.kill(pid(kafka, "kafka"), signal.SIGCONT)
        eventually(lambda: health(kafka.settings)["kafka"] == "up")
    assert not account.refused
    balanced(kafka.settings, account)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM], ids=["kill", "term"])
def test_a_collector_that_ends_in_an_outage_and_comes_back(kafka: Cluster, how: signal.Signals) -> None:
    account = Account()
    with load(kafka.settings, account):
        eventually(lambda: len(account.accepted) > 200)
        kafka.supervisor.stop("kafka")
        eventually(lambda: health(kafka.settings)["spooled"] > 100)
        collector = psutil.Process(pid(kafka, "collector"))
        family = [*collector.children(recursive=True), collector] if how is signal.SIGKILL else [collector]
        for process in family:
            process.send_signal(how)
        before = len(account.accepted)
        kafka.up()
        eventually(lambda: len(account.accepted) > before + 200)
    balanced(kafka.settings, account)


def test_a_full_spool_refuses_before_anything_is_sent(tmp_path: Path) -> None:
    base = Settings(home=tmp_path / "home", **free_ports())
    small = base.collector.model_copy(update={"spool_max_bytes": 4 * 1024**2, "spool_headroom_bytes": 1024**2})
    settings = base.model_copy(update={"collector": small})
    cluster = Cluster(settings, only=["kafka", "collector"])
    account = Account()
    try:
        cluster.up()
        with load(settings, account):
            eventually(lambda: len(account.accepted) > 200)
            cluster.supervisor.stop("kafka")
            eventually(lambda: len(account.refused) > 100)
            cluster.up()
            before = len(account.accepted)
            eventually(lambda: len(account.accepted) > before + 200)
        balanced(settings, account)
    finally:
        Cluster(settings).down()


def test_a_full_disk_breaks_no_promise(tmp_path: Path) -> None:
    if os.geteuid():
        pytest.skip("mounting a small file system needs root")
    disk = tmp_path / "disk"
    disk.mkdir()
    broker = Settings(home=tmp_path / "broker", **free_ports())
    cluster = Cluster(broker, only=["kafka"])
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", disk], check=True)
    try:
        cluster.up()
        small = broker.collector.model_copy(update={"spool_headroom_bytes": 4 * 1024**2})
        settings = broker.model_copy(update={"home": disk / "home", "collector": small})
        account = Account()
        with collector(settings, tmp_path / "collector.log"), load(settings, account):
            eventually(lambda: len(account.accepted) > 200)
            (disk / "filler").write_bytes(bytes(10 * 1024**2))
            cluster.supervisor.stop("kafka")
            eventually(lambda: len(account.refused) > 100)
            cluster.up()
            (disk / "filler").unlink()
            before = len(account.accepted)
            eventually(lambda: len(account.accepted) > before + 200)
        with collector(settings, tmp_path / "collector.log"):
            balanced(settings, account)
        assert "Unexpected exit" not in (tmp_path / "collector.log").read_text()  # of a worker
    finally:
        cluster.down()
        subprocess.run(["umount", disk], check=True)
