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
from tests.support.ports import free_ports
from tests.support.served import Account, balanced, collector, health, load
from tests.support.waiting import eventually


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A broker and a collector of this module's own."""
    settings = Settings(home=tmp_path_factory.mktemp("home"), **free_ports())
    cluster = Cluster(settings, only=["kafka", "collector"])
    try:
        cluster.up()
        yield cluster
    finally:
        Cluster(settings).down()


@pytest.fixture
def kafka(own: Cluster) -> Cluster:
    """Both well, whatever the test before did to them."""
    own.up()
    eventually(lambda: health(own.settings)["kafka"] == "up")
    return own


def beside(kafka: Cluster, home: Path, **collector: int) -> Settings:
    """Settings of one more collector at the same broker."""
    own = free_ports()["collector"] | collector
    changed = kafka.settings.collector.model_copy(update=own)
    return kafka.settings.model_copy(update={"home": home, "collector": changed})


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


def test_a_full_spool_refuses_before_anything_is_sent(kafka: Cluster, tmp_path: Path) -> None:
    settings = beside(kafka, tmp_path / "home", spool_max_bytes=4 * 1024**2, spool_headroom_bytes=1024**2)
    account = Account()
    with collector(settings, tmp_path / "collector.log"):
        with load(settings, account):
            eventually(lambda: len(account.accepted) > 200)
            kafka.supervisor.stop("kafka")
            eventually(lambda: len(account.refused) > 100)
            kafka.up()
            before = len(account.accepted)
            eventually(lambda: len(account.accepted) > before + 200)
        balanced(settings, account)


def test_a_full_disk_breaks_no_promise(kafka: Cluster, tmp_path: Path) -> None:
    if os.geteuid():
        pytest.skip("mounting a small file system needs root")
    disk, log = tmp_path / "disk", tmp_path / "collector.log"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", disk], check=True)
    try:
        settings = beside(kafka, disk / "home", spool_headroom_bytes=4 * 1024**2)
        account = Account()
        with collector(settings, log), load(settings, account):
            eventually(lambda: len(account.accepted) > 200)
            (disk / "filler").write_bytes(bytes(10 * 1024**2))
            kafka.supervisor.stop("kafka")
            eventually(lambda: len(account.refused) > 100)
            kafka.up()
            (disk / "filler").unlink()
            before = len(account.accepted)
            eventually(lambda: len(account.accepted) > before + 200)
        with collector(settings, log):
            balanced(settings, account)
        assert "Unexpected exit" not in log.read_text()  # of a worker
    finally:
        subprocess.run(["umount", disk], check=True)
