"""What the collector accepted is in Kafka, and what it refused is not, whatever died meanwhile."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests

from infra.services.cluster import Cluster
from infra.settings import Settings
from ingest.tail import tail
from tests.conftest import free_ports
from tests.waiting import eventually

CLIENTS = 8
START = 2  # hours by which a faked clock is behind


@dataclass
class Account:
    """What clients were told of each message, and how long the answers took in seconds."""

    accepted: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)
    cut: set[str] = field(default_factory=set)  # no answer: the client can't know
    seconds: list[float] = field(default_factory=list)

    @property
    def p99(self) -> float:
        return sorted(self.seconds)[int(len(self.seconds) * 0.99)]


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


@contextmanager
def load(settings: Settings, account: Account) -> Iterator[None]:
    """Clients that post one event, then five, and so on, until the block ends."""
    stop = threading.Event()
    url = f"{settings.collector.address}/collect"

    def client(number: int) -> None:
        session, sent = requests.Session(), 0
        while not stop.is_set():
            ids = [f"{number}-{sent + n}" for n in range(1 if sent % 2 else 5)]
            sent += len(ids)
            began = time.monotonic()
            try:
                answer = session.post(
                    url, json=[event(id_) for id_ in ids], headers={"X-Write-Key": "demo"}, timeout=30
                )
            except requests.RequestException:
                account.cut.update(ids)
                time.sleep(0.05)
                continue
            account.seconds.append(time.monotonic() - began)
            if answer.ok:
                assert answer.json()["accepted"] == len(ids)
                account.accepted.update(ids)
            else:
                assert answer.status_code == 503 and answer.headers["Retry-After"]
                account.refused.update(ids)
                time.sleep(0.02)

    with ThreadPoolExecutor(CLIENTS) as pool:
        running = [pool.submit(client, number) for number in range(CLIENTS)]
        try:
            yield
        finally:
            stop.set()
        for one in running:
            one.result()


def event(message_id: str) -> dict[str, Any]:
    return {
        "message_id": message_id,
        "event_type": "page_view",
        "occurred_at": time.time_ns() // 1_000_000,
        "anonymous_id": message_id.split("-")[0],
        "page": {"url": f"https://shop.example/{message_id}"},
    }


def in_kafka(settings: Settings) -> Counter[str]:
    """How often each message is there, once the spool is empty."""
    eventually(lambda: health(settings)["spooled"] == 0 and health(settings)["kafka"] == "up")
    records = tail(settings, settings.kafka.topic, from_beginning=True, follow=False)
    return Counter(record.as_dict()["value"]["message_id"] for record in records)


def health(settings: Settings) -> dict[str, Any]:
    try:
        found: dict[str, Any] = requests.get(f"{settings.collector.address}/health", timeout=5).json()
    except requests.RequestException:
        return {"spooled": -1, "kafka": "unknown"}
    return found


def balanced(settings: Settings, account: Account) -> None:
    """No accepted event is missing, no refused one is there. Doubles are told: curation removes them by their ids."""
    found = in_kafka(settings)
    missing, intruders = account.accepted - found.keys(), account.refused & found.keys()
    doubles = sum(count - 1 for count in found.values())
    print(
        f"accepted {len(account.accepted)}, refused {len(account.refused)}, cut {len(account.cut)}, "
        f"doubles {doubles}, p99 {account.p99 * 1000:.0f} ms"
    )
    assert (missing, intruders) == (set(), set())


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
    finally:
        cluster.down()
        subprocess.run(["umount", disk], check=True)


class Clock:
    """The wall clock of a collector; its monotonic one goes on as it does.

    What libfaketime 0.9.10 can't do: after a jump time.sleep fails, and what waits for a condition until a wall time,
    as librdkafka does, doesn't wait while the clock is behind, and waits for hours while it is ahead: so it never is.
    """

    def __init__(self, folder: Path) -> None:
        libraries = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
        if not libraries:
            pytest.skip("the clock can't be faked: libfaketime is absent (apt install faketime)")
        self._file = folder / "clock"
        self.set(behind=START)
        self.environment = {
            "LD_PRELOAD": str(libraries[0]),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def set(self, behind: int) -> None:
        """By how many hours from now on."""
        new = self._file.with_suffix(".new")
        new.write_text(f"-{behind * 3600}s\n")
        new.replace(self._file)  # an empty file would be the true time


def test_a_clock_that_jumps_refuses_and_loses_nothing(tmp_path: Path) -> None:
    clock = Clock(tmp_path)
    base = Settings(home=tmp_path / "home", **free_ports())
    cluster = Cluster(base, only=["kafka"])
    # The spool's age is what a jump could make too large.
    settings = base.model_copy(update={"collector": base.collector.model_copy(update={"spool_max_age_seconds": 1800})})
    account = Account()

    def more() -> None:
        before = len(account.accepted)
        eventually(lambda: len(account.accepted) > before + 500)

    began = time.time()
    try:
        cluster.up()
        with collector(settings, tmp_path / "collector.log", clock.environment):
            with load(settings, account):
                more()
                for behind in (START + 1, START - 1):
                    clock.set(behind)
                    more()
                cluster.supervisor.stop("kafka")
                eventually(lambda: health(settings)["spooled"] > 100)
                for behind in (START, START + 1, 0):
                    clock.set(behind)
                    more()
                cluster.up()
                eventually(lambda: health(settings)["kafka"] == "up")
                more()
            balanced(settings, account)
        assert (account.refused, account.cut) == (set(), set())
        hours_told = {round((received - began) / 3600) for received in received_at(settings)}
        assert hours_told == {-START - 1, -START, -START + 1, 0}, "the clock has jumped"
    finally:
        cluster.down()


def received_at(settings: Settings) -> list[float]:
    """When the collector says that it received what is in Kafka, in seconds since 1970."""
    records = tail(settings, settings.kafka.topic, from_beginning=True, follow=False)
    return [record.value["received_at"] / 1000 for record in records]


@contextmanager
def collector(settings: Settings, log: Path, environment: Mapping[str, str] | None = None) -> Iterator[None]:
    """`clickstream collector` as a process of the test's own."""
    command = [Path(sys.executable).with_name("clickstream"), "collector"]
    whole = {**os.environ, **settings.to_env(), **(environment or {})}
    with log.open("ab") as output:
        process = subprocess.Popen(command, env=whole, stdout=output, stderr=output)
    try:
        eventually(lambda: health(settings)["kafka"] != "unknown")
        yield
    finally:
        process.terminate()
        process.wait(30)
