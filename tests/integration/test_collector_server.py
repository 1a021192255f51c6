"""The collector as a server: several workers, restarts that nobody notices, certificates."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import requests
import trustme

from infra.settings import Settings
from ingest.tools.tail import tail
from tests.support.corners import own_topics
from tests.support.ports import free_ports
from tests.support.servers import RunningCollector, running_collector
from tests.support.waiting import eventually

CLIENTS = 8
EVENT = {"event_type": "page_view", "occurred_at": 1_795_260_000_000, "anonymous_id": "ann"}


@pytest.fixture
def own(cluster_settings: Settings, tmp_path: Path) -> Settings:
    """A topic, a port and a spool of its own, and two workers."""
    corner = own_topics(cluster_settings)
    collector = corner.collector.model_copy(update={"port": free_ports()["collector"]["port"], "workers": 2})
    return corner.model_copy(update={"home": tmp_path / "home", "collector": collector})


def get(settings: Settings, path: str) -> requests.Response:
    return requests.get(f"{settings.collector.address}{path}", timeout=5, verify=settings.collector.verify)


def post(settings: Settings, key: str = "demo") -> requests.Response:
    address, verify = settings.collector.address, settings.collector.verify
    return requests.post(f"{address}/collect", json=EVENT, headers={"X-Write-Key": key}, timeout=10, verify=verify)


@contextmanager
def load(settings: Settings) -> Iterator[Counter[str]]:
    """Clients that keep their connections; yields what they were answered: accepted, or what else."""
    stop, answers = threading.Event(), Counter[str]()

    def client(number: int) -> None:
        with requests.Session() as session:
            session.headers["X-Write-Key"] = "demo"
            while not stop.is_set():
                try:
                    answer = session.post(f"{settings.collector.address}/collect", json=EVENT, timeout=10)
                except requests.RequestException as error:
                    answers[repr(error)] += 1
                else:
                    answers["accepted" if answer.ok else str(answer.status_code)] += 1

    with ThreadPoolExecutor(CLIENTS) as pool:
        running = [pool.submit(client, number) for number in range(CLIENTS)]
        try:
            yield answers
        finally:
            stop.set()
        for one in running:
            one.result()


def stored(settings: Settings) -> int:
    return sum(1 for _ in tail(settings, settings.kafka.topic, from_beginning=True, follow=False))


def replaced(collector: RunningCollector, before: set[int]) -> bool:
    now = collector.workers()
    return len(now) == len(before) and not now & before


def test_whichever_worker_is_scraped_tells_the_numbers_of_all(own: Settings) -> None:
    with running_collector(own) as collector:
        assert len(collector.workers()) == 2
        for _ in range(40):  # a connection each, so that both take some
            assert post(own).ok

        def accepted() -> set[str]:
            texts = [get(own, "/metrics").text for _ in range(10)]
            return {line for text in texts for line in text.splitlines() if line.startswith(ACCEPTED)}

        assert accepted() == {f"{ACCEPTED} 40.0"}
        victim = min(collector.workers())
        os.kill(victim, signal.SIGKILL)
        eventually(lambda: len(collector.workers()) == 2 and victim not in collector.workers())
        eventually(lambda: get(own, "/readyz").ok)
        assert post(own).ok
        assert accepted() == {f"{ACCEPTED} 41.0"}
        assert "clickstream_collector_kafka_up 1.0" in get(own, "/metrics").text
        assert f'pid="{victim}"' not in get(own, "/metrics").text


ACCEPTED = 'clickstream_collector_events_total{key="demo",outcome="accepted",protocol="native"}'


def test_a_reload_under_load_replaces_all_workers_and_no_request_notices(own: Settings) -> None:
    with running_collector(own) as collector, load(own) as answers:
        before = collector.workers()
        eventually(lambda: answers["accepted"] > 200)
        collector.process.send_signal(signal.SIGHUP)
        eventually(lambda: replaced(collector, before))
        so_far = answers["accepted"]
        eventually(lambda: answers["accepted"] > so_far + 200)
    assert set(answers) == {"accepted"}, answers
    assert stored(own) == answers["accepted"]


def test_a_reload_with_settings_that_are_wrong_leaves_the_workers_at_work(own: Settings) -> None:
    own.home.mkdir()
    with running_collector(own) as collector:
        before = collector.workers()
        (own.home / "clickstream.toml").write_text("[collector]\nmax_events = 0\n")
        collector.process.send_signal(signal.SIGHUP)
        eventually(lambda: collector.log().count("worker_not_replaced") == 2)
        assert collector.workers() == before
        assert post(own).ok
        text = collector.log()
        assert "collector.max_events" in text
        collector.log_file.write_text("")  # the traceback was to be expected


def test_a_server_that_takes_over_the_socket_of_another_refuses_nothing(own: Settings) -> None:
    with (
        socket.create_server(("127.0.0.1", own.collector.port), backlog=128) as listening,  # as systemd holds it
        ExitStack() as servers,
    ):
        first = servers.enter_context(running_collector(own, listening))
        with load(own) as answers:
            eventually(lambda: answers["accepted"] > 200)
            first.process.terminate()
            first.process.wait(30)
            servers.enter_context(running_collector(own, listening))
            so_far = answers["accepted"]
            eventually(lambda: answers["accepted"] > so_far + 200)
    assert set(answers) == {"accepted"}, answers
    assert stored(own) == answers["accepted"]


def test_it_says_that_it_is_not_ready_before_it_ends(own: Settings) -> None:
    slow = own.collector.model_copy(update={"drain_seconds": 3.0})
    settings = own.model_copy(update={"collector": slow})
    with running_collector(settings) as collector:
        collector.process.terminate()
        eventually(lambda: get(settings, "/readyz").json()["draining"])
        answer = post(settings)
        assert (answer.status_code, answer.headers["Connection"]) == (200, "close")
        assert collector.process.wait(30) == 0


def test_certificates_and_keys_of_settings_are_renewed_by_a_reload(own: Settings, tmp_path: Path) -> None:
    ca, files = trustme.CA(), {name: tmp_path / f"{name}.pem" for name in ("certificate", "key", "ca")}
    ca.cert_pem.write_to_path(files["ca"])

    def issue() -> None:
        issued = ca.issue_cert("127.0.0.1")
        issued.private_key_pem.write_to_path(files["key"])
        files["certificate"].write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))

    issue()
    tls = {name: str(file) for name, file in files.items()}
    own.home.mkdir()
    keys = own.home / "clickstream.toml"
    keys.write_text('[collector.write_keys]\nold = "first"\n')
    settings = Settings.model_validate(
        own.model_dump(exclude_unset=True) | {"collector": {"port": own.collector.port, "tls": tls}}
    )
    assert settings.collector.address.startswith("https:")
    with running_collector(settings) as collector:
        assert (post(settings, "first").status_code, post(settings, "second").status_code) == (200, 401)
        with pytest.raises(requests.exceptions.SSLError):
            requests.get(f"{settings.collector.address}/healthz", timeout=5)
        before, shown = collector.workers(), certificate(settings)
        issue()
        keys.write_text('[collector.write_keys]\nnew = "second"\n')
        collector.process.send_signal(signal.SIGHUP)
        eventually(lambda: replaced(collector, before))
        assert (post(settings, "first").status_code, post(settings, "second").status_code) == (401, 200)
        assert certificate(settings) != shown


def certificate(settings: Settings) -> str:
    return ssl.get_server_certificate(("127.0.0.1", settings.collector.port))


def test_a_port_that_is_taken_is_named(own: Settings) -> None:
    command = [Path(sys.executable).with_name("clickstream"), "collector"]
    environment = {**os.environ, **own.to_env()}
    with socket.create_server(("127.0.0.1", own.collector.port)):
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=False)
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 2 and "CLICKSTREAM_COLLECTOR__PORT" in last and str(own.collector.port) in last
