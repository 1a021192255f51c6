"""Rates that several collectors share, counted in a real Redis."""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from infra.settings.collector import Collector
from infra.web.serving import free_port
from ingest.policy.rate_limits import PAUSE_SECONDS, Rates
from tests.support.waiting import eventually

NOW = 1_795_245_560.0  # Redis counts by its own clock; this one only says when a pause is over


class Redis:
    """A server that keeps nothing on disk."""

    def __init__(self, folder: Path) -> None:
        self._port = free_port("127.0.0.1")
        self.url = f"redis://127.0.0.1:{self._port}"
        self._command = [
            "redis-server", "--bind", "127.0.0.1", "--port", str(self._port), "--dir", str(folder),
            "--save", "", "--appendonly", "no",
        ]  # fmt: skip
        self.start()

    def start(self) -> None:
        import redis

        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)
        client = redis.from_url(self.url)

        def answers() -> bool:
            try:
                return bool(client.ping())
            except redis.ConnectionError:
                return False

        eventually(answers)
        client.close()

    def send(self, what: signal.Signals) -> None:
        self._process.send_signal(what)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[Redis]:
    pytest.importorskip("redis", reason="the extra redis is not installed")
    if not shutil.which("redis-server"):
        pytest.skip("no Redis: redis-server is not on the PATH (apt install redis-server)")
    server = Redis(tmp_path)
    try:
        yield server
    finally:
        server.kill()


def rates(server: Redis, **limits: str) -> Rates:
    """Those of one collector."""
    return Rates(Collector.model_validate({"rates": {"url": server.url, **limits}}))


def test_two_collectors_share_a_limit(redis_server: Redis) -> None:
    one, other = rates(redis_server, key="100/hour"), rates(redis_server, key="100/hour")
    assert one.admit("shop", None, 60, NOW) is None
    assert other.admit("shop", None, 41, NOW) is not None
    assert other.admit("shop", None, 40, NOW) is None, "what was refused is not counted"
    assert one.admit("shop", None, 1, NOW) is not None
    assert one.admit("app", None, 100, NOW) is None, "each key for itself"


def test_two_collectors_share_the_limit_of_an_address(redis_server: Redis) -> None:
    one, other = rates(redis_server, ip="10/hour"), rates(redis_server, ip="10/hour")
    assert one.admit("shop", "2001:db8:1:2::1", 10, NOW) is None
    assert other.admit("app", "2001:db8:1:2::2", 1, NOW) is not None
    assert other.admit("app", "203.0.113.9", 1, NOW) is None


def test_many_threads_of_two_collectors_together_get_what_the_limit_gives(redis_server: Redis) -> None:
    collectors = [rates(redis_server, key="200/hour") for _ in range(2)]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda n: collectors[n % 2].admit("shop", None, 1, NOW), range(600)))
    # Looking and counting are two steps, so that each other collector may let in one request too many.
    assert 200 <= answers.count(None) <= 201


def test_while_redis_is_dead_events_come_in_and_counting_goes_on_when_it_is_back(redis_server: Redis) -> None:
    one, other = rates(redis_server, key="100/hour"), rates(redis_server, key="100/hour")
    assert one.admit("shop", None, 100, NOW) is None
    assert one.admit("shop", None, 1, NOW) is not None
    redis_server.kill()
    with capture_logs() as logs:
        assert [one.admit("shop", None, 10, NOW + n / 10) for n in range(40)] == [None] * 40
    assert [line["event"] for line in logs] == ["rates_not_counted"]

    redis_server.start()
    later = NOW + PAUSE_SECONDS
    assert one.admit("shop", None, 60, later) is None, "it has forgotten what was before"
    assert other.admit("shop", None, 40, later) is None, "a collector that saw none of it"
    assert one.admit("shop", None, 1, later) is not None
    assert other.admit("shop", None, 1, later) is not None


def test_while_redis_hangs_only_one_request_waits_for_it(redis_server: Redis) -> None:
    one = rates(redis_server, key="100/hour")
    assert one.admit("shop", None, 100, NOW) is None
    redis_server.send(signal.SIGSTOP)
    try:
        with capture_logs() as logs, ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: one.admit("shop", None, 10, NOW), range(40)))
    finally:
        redis_server.send(signal.SIGCONT)
    assert answers == [None] * 40
    assert [line["event"] for line in logs] == ["rates_not_counted"]
    assert one.admit("shop", None, 1, NOW + PAUSE_SECONDS) is not None, "what it counted before it still counts"
