"""A Spark driver that runs job after job, for tasks of Airflow that follow each other: what loads and compiles Java's
classes is then done once. Started and asked by infra/spark/drivers.py, where the protocol is described.

Each job is a Spark application of its own, with its own name, configuration and event log, exactly as if spark-submit
had started it. The driver ends when nobody asked for a minute, after some jobs, or when a job broke: whatever that
left is gone with it. When the task that asked goes away in mid-job, it ends at once, so nothing writes beside a retry.
"""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import socket
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from infra import project
from infra.errors import GATE_CLOSED

IDLE_SECONDS = 60.0
MOST_JOBS = 24  # what leaks, leaks no further
_SOUND = (0, 2, GATE_CLOSED)  # exit codes after which the process is as good as before
Request = dict[str, Any]


class Server:
    """The socket at `base`.idle or `base`.busy, and who asks there; `run` does a request and returns its exit code."""

    def __init__(self, endpoint: Path, run: Callable[[Request], int]) -> None:
        """Listens from now on; `endpoint`: free for everybody as .idle, or for who started it as .busy."""
        self._idle, self._busy, self._log = (endpoint.with_suffix(f".{end}") for end in ("idle", "busy", "log"))
        self._run, self._parent = run, os.getppid()
        self._listener = socket.socket(socket.AF_UNIX)
        new = endpoint.with_suffix(".new")
        self._listener.bind(str(new))
        self._listener.listen()
        new.rename(endpoint)  # nobody finds it before it listens

    def serve(self, idle_seconds: float = IDLE_SECONDS, jobs: int = MOST_JOBS) -> None:
        """Answers one client after the other, and returns when the driver has to end."""
        self._listener.settimeout(idle_seconds)
        try:
            for left in reversed(range(jobs)):
                client = self._client()
                if client is None or not self._answer(client, last=not left):
                    return
        finally:
            for file in (self._idle, self._busy, self._log):
                file.unlink(missing_ok=True)

    def _client(self) -> socket.socket | None:
        """The next one; None if there is none in time. Nobody finds the driver any more then."""
        with suppress(TimeoutError):
            return self._listener.accept()[0]
        try:
            self._idle.unlink()
        except FileNotFoundError:  # somebody has just taken it
            with suppress(TimeoutError):
                return self._listener.accept()[0]
        return None

    def _answer(self, client: socket.socket, last: bool) -> bool:
        """Does what the client asks; returns whether another may ask."""
        client.settimeout(None)
        goes_on = False
        with client, suppress(OSError):  # who does not wait for the answer has no need of it
            if os.getppid() != self._parent:  # without its JVM it can do nothing
                return False
            client.sendall(_line({"offset": self._log.stat().st_size if self._log.exists() else 0}))
            with client.makefile("rb") as lines:
                asked = lines.readline()
            if not asked:
                return False
            with _ended_with(client):
                code = self._run(json.loads(asked))
                sys.stdout.flush()
                sys.stderr.flush()
            goes_on = code in _SOUND and not last
            if goes_on:  # before the answer, or its next stage would find no driver
                self._busy.rename(self._idle)
            client.sendall(_line({"code": code}))
        return goes_on


@contextmanager
def _ended_with(client: socket.socket) -> Iterator[None]:
    """Meanwhile this process and its JVM end at once if the client goes away."""
    done = threading.Event()

    def watch() -> None:
        with suppress(OSError):
            client.recv(1)  # the client says nothing more: returns when it is gone
        if not done.is_set():
            parent = psutil.Process().parent()
            if parent is not None and parent.name() == "java":
                parent.terminate()
            os._exit(1)  # Python's part of the job does nothing more, not even tidy up

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        done.set()


def _line(facts: dict[str, Any]) -> bytes:
    return json.dumps(facts).encode() + b"\n"


def run_job(request: Request) -> int:
    """Runs a job's `main` as the request says, {job, batch, conf}; returns its exit code, 1 for a traceback."""
    from pyspark import SparkContext

    SparkContext._ensure_initialized()
    system, paths = SparkContext._jvm.System, [*sys.path]  # type: ignore[union-attr]
    for name, value in request["conf"].items():  # where spark-submit puts what --conf says
        system.setProperty(name, value)
    try:
        main: Callable[[list[str]], int] = importlib.import_module(f"processing.jobs.{request['job']}").main
        return main(["--batch", request["batch"]])
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        for name in request["conf"]:
            system.clearProperty(name)
        sys.path[:] = paths  # without the folder of an application that has ended


def warm_up() -> None:
    """Does what every job begins with: imports, and a first Spark application, which nobody is told of."""
    import processing.jobs

    for module in pkgutil.iter_modules(processing.jobs.__path__):
        importlib.import_module(f"processing.jobs.{module.name}")
    from pyspark.sql import SparkSession

    paths = [*sys.path]
    quiet: dict[str, Any] = {"spark.eventLog.enabled": "false", "spark.extraListeners": ""}
    spark = SparkSession.builder.appName("warm_up").config(map=quiet).getOrCreate()
    spark.sql("SELECT 1").collect()
    spark.stop()
    sys.path[:] = paths


def main(endpoint: Path) -> None:
    sys.path[:] = [path for path in sys.path if path != str(project.DRIVER.parent)]  # modules there have a package
    with endpoint.with_suffix(".log").open("ab") as log:  # not through the JVM, which would write it at some later time
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    for package in project.SPARK_PACKAGES:  # from where they stay, not from the folder of the first application
        importlib.import_module(package)
    server = Server(endpoint, run_job)
    if endpoint.suffix == ".idle":
        warm_up()
    server.serve()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
