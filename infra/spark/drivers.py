"""Spark drivers that tasks of Airflow share: the jobs of a DAG run go one after another through one that is warm.

A driver (processing/driver.py) is started by spark-submit, in a session of its own, and listens on a Unix socket in
<home>/run/drivers. There it is <key>-<token>.idle; who renames it to .busy has it. The driver greets with the length of
its log, is told {job, batch, conf} and answers with the job's exit code, each a line of JSON; meanwhile its log is
copied to the task's. Before the answer it renames itself to .idle. If the connection ends before, it ends itself.

`key` stands for all that a driver takes from outside when it starts: command, settings, code. So none does what another
version or other settings ask.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import secrets
import select
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from infra import project
from infra.errors import ServiceError
from infra.settings import Settings

_LONGEST = 100  # of the path of a Unix socket
_PATIENCE = 60.0  # s, for the greeting: a driver that was just started first warms up
_START_PATIENCE = 300.0  # s
_POLL_SECONDS = 0.2
_started: list[subprocess.Popen[bytes]] = []  # which nobody waits for: they outlive this process


class Drivers:
    """The drivers of one home that a spark-submit `command`, which lacks its last argument, starts.

    `turn_seconds`: how long jobs of one DAG run wait for each other before another driver is started.
    """

    def __init__(self, settings: Settings, command: Sequence[str], turn_seconds: float = 20.0) -> None:
        self._turn_seconds = turn_seconds
        self._folder, self._command = settings.home / "run" / "drivers", command
        self._key = _key(settings, command)

    @property
    def usable(self) -> bool:
        """False if the home's path is too long for a socket's."""
        return len(str(self._endpoint("idle"))) <= _LONGEST

    def prepare(self) -> None:
        """Starts a driver, unless one is idle, for a job that will come; it ends by itself if none does."""
        if self.usable and not self.idle():
            self.start("idle")

    def idle(self) -> list[Path]:
        return sorted(self._folder.glob(f"{self._key}-*.idle"))

    def start(self, state: str) -> tuple[Path, subprocess.Popen[bytes]]:
        """Starts a driver, which will be idle or busy (this process's own); returns its socket-to-be."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._tidy()
        endpoint = self._endpoint(state)
        with endpoint.with_suffix(".log").open("ab") as log:
            fcntl.flock(log, fcntl.LOCK_EX)  # held by what inherits it, until the driver has ended
            process = subprocess.Popen(
                [*self._command, str(endpoint)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        _started.append(process)
        return endpoint, process

    def take(self) -> Iterator[Path]:
        """Idle drivers, each of which is this process's own from now on."""
        for idle in self.idle():
            busy = idle.with_suffix(".busy")
            with suppress(FileNotFoundError):  # another was quicker
                idle.rename(busy)
                yield busy

    @contextmanager
    def turn(self, run: str, stopped: Callable[[], bool]) -> Iterator[None]:
        """Waits while another process has the turn of a DAG run: its driver will be free, and is warm. Waits no longer
        than a new one would take to start, nor if another driver is idle. Raises ServiceError when it is `stopped`."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        place = int.from_bytes(hashlib.sha256(run.encode()).digest()[:4])
        deadline = time.monotonic() + self._turn_seconds
        with (self._folder / "turns").open("ab") as turns:
            while not _locked(turns, place) and not self.idle() and time.monotonic() < deadline:
                if stopped():
                    raise ServiceError("spark", "stopped before it began")
                time.sleep(_POLL_SECONDS)
            yield

    def _endpoint(self, state: str) -> Path:
        return self._folder / f"{self._key}-{secrets.token_hex(3)}.{state}"

    def _tidy(self) -> None:
        """Removes what killed drivers left."""
        for file in self._folder.glob("*.log"):
            with file.open("ab") as log, suppress(BlockingIOError):
                fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
                for left in self._folder.glob(f"{file.stem}.*"):
                    left.unlink(missing_ok=True)


class Client:
    """One job in a shared driver; `say` is given each line that the driver logs meanwhile."""

    def __init__(self, drivers: Drivers, say: Callable[[str], None]) -> None:
        self._drivers, self._say = drivers, say
        self._connection: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._stopped = False

    def run(self, run: str, job: str, batch: str, conf: Mapping[str, str]) -> int:
        """Runs a job on a batch in a driver that is idle, else in a new one, and returns its exit code; short jobs of a
        DAG `run` wait for each other. Raises ServiceError when the driver ends in mid-job or can't be started."""
        with self._drivers.turn(run, lambda: self._stopped):
            connection, log, offset = self._taken() or self._started()
            with connection, log:
                self._say(f"{job} --batch {batch}, in the Spark driver of {log.name}")
                log.seek(offset)
                connection.sendall(json.dumps({"job": job, "batch": batch, "conf": dict(conf)}).encode() + b"\n")
                answer = self._follow(connection, log)
        if answer is None:
            why = "was stopped" if self._stopped else f"ended in the midst of {job}"
            raise ServiceError("spark", f"the driver {why}")
        return int(answer["code"])

    def stop(self) -> None:
        """Gives up: the driver ends itself."""
        self._stopped = True
        if self._connection is not None:
            with suppress(OSError):
                self._connection.shutdown(socket.SHUT_RDWR)
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGTERM)

    def _taken(self) -> tuple[socket.socket, BinaryIO, int] | None:
        """An idle driver, and from where on its log is this job's."""
        for endpoint in self._drivers.take():
            if greeted := self._greeted(endpoint):
                return greeted
            endpoint.unlink(missing_ok=True)  # it was killed, or does not answer
        return None

    def _started(self) -> tuple[socket.socket, BinaryIO, int]:
        endpoint, self._process = self._drivers.start("busy")
        deadline = time.monotonic() + _START_PATIENCE
        while not endpoint.exists():
            code = self._process.poll()
            if code is not None or self._stopped or time.monotonic() > deadline:
                self.stop()
                for line in endpoint.with_suffix(".log").read_text(errors="replace").splitlines():
                    self._say(line)
                raise ServiceError("spark", f"no driver could be started: spark-submit ended with {code}")
            time.sleep(_POLL_SECONDS)
        if greeted := self._greeted(endpoint):
            self._process = None
            return *greeted[:2], 0
        self.stop()
        raise ServiceError("spark", "the driver that was started does not answer")

    def _greeted(self, endpoint: Path) -> tuple[socket.socket, BinaryIO, int] | None:
        connection = self._connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(_PATIENCE)
        try:
            connection.connect(str(endpoint))
            offset = _read(connection)["offset"]
            connection.settimeout(None)
            return connection, endpoint.with_suffix(".log").open("rb"), offset
        except (OSError, ValueError):
            connection.close()
            return None

    def _follow(self, connection: socket.socket, log: BinaryIO) -> dict[str, Any] | None:
        """Copies the log until the driver answers; None if it ends instead."""
        rest = b""
        while True:
            answers, _, _ = select.select([connection], [], [], _POLL_SECONDS)
            *lines, rest = (rest + log.read()).split(b"\n")
            for line in [*lines, rest] if answers and rest else lines:
                self._say(line.decode(errors="replace"))
            if answers:
                try:
                    return _read(connection)
                except (OSError, ValueError):
                    return None


def _locked(file: BinaryIO, place: int) -> bool:
    """Locks a byte of the file, until it is closed; whether no other process has it."""
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, place)
    except OSError:
        return False
    return True


def _read(connection: socket.socket) -> dict[str, Any]:
    """A line of JSON. Raises ValueError if the connection ended."""
    with connection.makefile("rb") as lines:
        found: dict[str, Any] = json.loads(lines.readline())
    return found


def _key(settings: Settings, command: Sequence[str]) -> str:
    files = (settings.home / "run" / "clickstream.zip", settings.home / "conf" / "spark" / "spark-defaults.conf")
    versions = [(file.stat().st_mtime_ns, file.stat().st_size) for file in (*files, project.DRIVER) if file.exists()]
    whole = repr((sorted(settings.to_env().items()), list(command), versions))
    return hashlib.sha256(whole.encode()).hexdigest()[:8]
