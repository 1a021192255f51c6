"""A sink and a collector while a test runs: started as the product does, stopped at the end."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import requests

from infra.settings import Settings
from storage.hdfs import Hdfs
from storage.sink.member import run
from storage.sink.metrics import SinkMetrics
from tests.support.waiting import eventually


class RunningSink:
    """A sink in a thread of this process; `failure` is what ended it, if anything did."""

    def __init__(self, settings: Settings) -> None:
        self.metrics, self.failure = SinkMetrics(), None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(settings,))
        self._thread.start()

    def _run(self, settings: Settings) -> None:
        try:
            run(settings, Hdfs(settings), self.metrics, self._stop)
        except BaseException as error:
            self.failure: BaseException | None = error

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(60)
        assert not self._thread.is_alive()

    def value(self, name: str, **labels: str) -> float:
        """A metric's value, 0 when it has none."""
        return self.metrics.registry.get_sample_value(f"clickstream_sink_{name}", labels) or 0.0


@contextmanager
def running_sink(settings: Settings) -> Iterator[RunningSink]:
    """Stops it at the end; a failure of it fails the test."""
    sink = RunningSink(settings)
    try:
        yield sink
    finally:
        sink.stop()
    if sink.failure:
        raise sink.failure


@dataclass
class RunningCollector:
    """A collector that runs as the product starts it."""

    address: str
    process: subprocess.Popen[bytes]
    log_file: Path
    verify: bool | str = True

    def workers(self) -> set[int]:
        """Their pids."""
        return {process.pid for process in self.processes()[1:]}

    def log(self) -> str:
        return self.log_file.read_text(errors="replace")

    def processes(self) -> list[psutil.Process]:
        """The server and its workers."""
        server = psutil.Process(self.process.pid)
        return [server, *sorted(server.children(recursive=True), key=lambda process: process.pid)]

    def healthy(self) -> bool:
        assert self.process.poll() is None, self.log()
        try:
            return requests.get(f"{self.address}/readyz", timeout=1, verify=self.verify).ok
        except requests.RequestException:
            return False


@contextmanager
def running_collector(settings: Settings, stdin: socket.socket | None = None) -> Iterator[RunningCollector]:
    """Stops it at the end; a traceback in its log fails the test. `stdin`: a listening socket that it is to take."""
    command = [sys.executable, "-c", "from infra.cli import main; main()", "collector"]
    log = settings.home / "collector.log"
    environment = os.environ | settings.to_env()
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as out:
        process = subprocess.Popen(
            command,
            cwd=Path(__file__).parents[2],
            env=environment,
            stdin=stdin or subprocess.DEVNULL,
            stdout=out,
            stderr=out,
        )
    running = RunningCollector(settings.collector.address, process, log, settings.collector.verify)
    try:
        eventually(running.healthy)
        eventually(lambda: running.log().count("Started worker") == settings.collector.workers)
        yield running
    finally:
        process.terminate()
        process.wait(30)
    assert "Traceback" not in running.log(), running.log()
