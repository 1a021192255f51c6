"""The collector beside a naive peer: the same Kafka, server, workers, threads and load, in turns within one run.

Servers and load run in processes of their own, on loopback. Events go to temporary topics, where each accepted event is
counted: a fast answer that stored nothing would show.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import psutil
import requests

from infra import topics
from infra.errors import ServiceError
from infra.settings import Settings
from infra.web.serving import free_port
from ingest.bench.load import Plan, Seen

BATCH = 100
_SERVERS = {"naive": ["-m", "ingest.bench.naive"], "collector": ["-m", "infra.cli", "collector"]}
_WARM_UP_SECONDS = 1.0
_PATIENCE_SECONDS = 30
Progress = Callable[[str], None]


class Round(msgspec.Struct):
    """One turn of one server: the load's measurements, and the processor time of the server's processes."""

    seen: Seen
    events: int
    cpu_seconds: float

    @property
    def rate(self) -> float:
        """Events a second."""
        return self.events / self.seen.seconds


def run(settings: Settings, seconds: float, rounds: int, connections: int, progress: Progress) -> dict[str, Any]:
    """The facts of a whole run, which takes some 4 x `rounds` x `seconds`. Raises ServiceError if a server fails."""
    took: dict[tuple[str, int], list[Round]] = {}
    with tempfile.TemporaryDirectory() as home, ExitStack() as stack:
        own = _own_settings(settings, Path(home))
        stack.enter_context(topics.temporary_topics(own))
        servers = {name: stack.enter_context(_served(name, own)) for name in _SERVERS}
        for batch in (0, BATCH):
            for server in servers.values():
                server.load(own, batch, connections, _WARM_UP_SECONDS)
            for number in range(rounds):
                for name, server in servers.items():
                    progress(f"{name}, {'batches' if batch else 'single events'}, round {number + 1} of {rounds}")
                    took.setdefault((name, batch), []).append(server.load(own, batch, connections, seconds))
        sent = sum(server.accepted for server in servers.values())
        stored = sum(topics.end_offsets(own, own.kafka.topic).values())
    return {
        "workers": settings.collector.workers,
        "threads": settings.collector.threads,
        "connections": connections,
        "rounds": rounds,
        "seconds": seconds,
        "accepted": sent,
        "stored": stored,
        "single": _compare(took["naive", 0], took["collector", 0]),
        "batch": _compare(took["naive", BATCH], took["collector", BATCH]),
    }


def _compare(naive: list[Round], collector: list[Round]) -> dict[str, Any]:
    """Medians over the rounds: of each server, and of the ratios within a round, collector to naive.

    A machine's speed changes from minute to minute; the two turns of a round are seconds apart.
    """
    pairs = list(zip(collector, naive, strict=True))
    return {
        "naive": _medians(naive),
        "collector": _medians(collector),
        "ratio": round(statistics.median(ours.rate / theirs.rate for ours, theirs in pairs), 3),
        "p99_ratio": round(statistics.median(ours.seen.p99_ms / theirs.seen.p99_ms for ours, theirs in pairs), 3),
    }


def _medians(rounds: list[Round]) -> dict[str, float]:
    def median(value: Callable[[Round], float]) -> float:
        return round(statistics.median(map(value, rounds)), 3)

    return {
        "requests_per_second": median(lambda r: r.seen.requests / r.seen.seconds),
        "events_per_second": median(lambda r: r.rate),
        "p50_ms": median(lambda r: r.seen.p50_ms),
        "p99_ms": median(lambda r: r.seen.p99_ms),
        "cpu_us_per_event": median(lambda r: r.cpu_seconds / r.events * 1e6),
    }


class _Server:
    """A running server; `accepted` counts the events that it answered with 200."""

    def __init__(self, name: str, process: psutil.Popen, port: int) -> None:
        self.name, self.port, self.accepted = name, port, 0
        self._process = process

    def load(self, settings: Settings, batch: int, connections: int, seconds: float) -> Round:
        """One round of load, from a process of its own. Raises ServiceError when a request failed."""
        key = next(iter(settings.collector.write_keys.values())).secret
        plan = Plan(settings.collector.host, self.port, key, connections, seconds, batch)
        before = self._cpu_seconds()
        command = [sys.executable, "-m", "ingest.bench.load"]
        done = subprocess.run(command, input=msgspec.json.encode(plan), capture_output=True)
        if done.returncode:
            raise ServiceError(self.name, f"the load ended early: {done.stderr.decode().strip().splitlines()[-1]}")
        seen = msgspec.json.decode(done.stdout, type=Seen)
        if seen.failed:
            raise ServiceError(self.name, f"{seen.failed} of {seen.requests} requests were not answered with 200")
        events = seen.requests * max(batch, 1)
        self.accepted += events
        return Round(seen, events, self._cpu_seconds() - before)

    def _cpu_seconds(self) -> float:
        processes = [self._process, *self._process.children(recursive=True)]
        return float(sum(sum(process.cpu_times()[:2]) for process in processes))


def _own_settings(settings: Settings, home: Path) -> Settings:
    """The settings with a temporary home and temporary topics."""
    kafka = settings.kafka.model_copy(
        update={"topic": f"bench-{time.time_ns()}", "bootstrap_servers": settings.kafka.address}
    )
    collector = settings.collector.model_copy(update={"host": "127.0.0.1"})
    return settings.model_copy(update={"home": home, "kafka": kafka, "collector": collector})


@contextmanager
def _served(name: str, settings: Settings) -> Iterator[_Server]:
    """Runs the server in a process of its own for the block, which begins once it answers."""
    port = free_port(settings.collector.host)
    collector = settings.collector.model_copy(update={"port": port})
    own = settings.model_copy(update={"collector": collector})
    log = settings.home / f"{name}.log"
    with log.open("wb") as output:
        process = psutil.Popen(
            [sys.executable, *_SERVERS[name]], env=own.to_env(), stdout=output, stderr=subprocess.STDOUT
        )
    try:
        _await(name, f"http://{collector.host}:{port}/readyz", process, log)
        yield _Server(name, process, port)
    finally:
        process.terminate()
        try:
            process.wait(_PATIENCE_SECONDS)
        except psutil.TimeoutExpired:
            process.kill()


def _await(name: str, url: str, process: psutil.Popen, log: Path) -> None:
    """Waits until `url` answers. Raises ServiceError with the end of the server's output."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            requests.get(url, timeout=2)
            return
        except requests.RequestException:
            if process.poll() is not None or time.monotonic() > deadline:
                words = log.read_text(errors="replace").strip().splitlines() or ["it said nothing"]
                raise ServiceError(name, f"does not answer at {url}: {words[-1]}") from None
            time.sleep(0.1)
