"""One supervisord per CLICKSTREAM_HOME, controlled over its Unix socket; and the processes a killed one left."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import xmlrpc.client
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
from supervisor.xmlrpc import SupervisorTransport
from tenacity import retry, retry_if_result, stop_after_delay, wait_fixed

from infra.errors import ServiceError
from infra.settings import PREFIX, Settings

_HOME, _SERVICE = f"{PREFIX}HOME", f"{PREFIX}SERVICE"


def socket_path(settings: Settings) -> Path:
    """The control socket; outside a home whose path is too long for a Unix socket's name."""
    path = settings.home / "run" / "supervisor.sock"
    if len(str(path)) < 100:
        return path
    digest = hashlib.sha256(str(settings.home).encode()).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"clickstream-{digest}.sock"


class Supervisor:
    """Starts, stops and reports on the programs of the rendered configuration."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    @property
    def running(self) -> bool:
        """Whether a supervisord answers at our socket."""
        try:
            return bool(self._call("getState")["statename"] == "RUNNING")
        except (OSError, xmlrpc.client.Error):
            return False

    def launch(self, configuration: Path, environment: dict[str, str]) -> None:
        """Starts supervisord, which then runs in the background."""
        command = [sys.executable, "-m", "supervisor.supervisord", "-c", str(configuration)]
        log = self._settings.home / "logs" / "supervisord-start.log"
        with log.open("ab") as output:
            done = subprocess.run(command, stdout=output, stderr=output, env=environment, check=False)
        if done.returncode or not _wait_until(lambda: self.running, 20):
            raise ServiceError("supervisord", f"did not start (log: {log})")

    def reload(self) -> None:
        """Takes programs that a changed configuration adds; running ones are left alone."""
        added, _, _ = self._call("reloadConfig")[0]
        for name in added:
            self._call("addProcessGroup", name)

    def states(self) -> dict[str, dict[str, Any]]:
        """program -> supervisord's process info (`statename`, `pid`, `spawnerr` …); empty when nothing runs."""
        if not self.running:
            return {}
        return {info["name"]: info for info in self._call("getAllProcessInfo")}

    def environment(self) -> dict[str, str]:
        """The environment of supervisord and of all it starts. Raises ServiceError if none runs."""
        try:
            return psutil.Process(self._call("getPID")).environ()
        except (OSError, xmlrpc.client.Error, psutil.Error) as error:
            raise ServiceError("supervisord", f"does not tell its environment: {error!r}") from error

    def start(self, name: str) -> None:
        """Starts a program that isn't running."""
        try:
            self._call("startProcess", name, False)
        except xmlrpc.client.Fault as fault:
            if "ALREADY_STARTED" not in fault.faultString:
                raise ServiceError(name, fault.faultString) from fault

    def stop(self, name: str) -> None:
        """Stops a program and waits for its end."""
        try:
            self._call("stopProcess", name)
        except xmlrpc.client.Fault as fault:
            if "NOT_RUNNING" not in fault.faultString:
                raise ServiceError(name, fault.faultString) from fault

    def hang_up(self, name: str) -> None:
        """Sends SIGHUP to a program's main process. Raises ServiceError if it does not run."""
        try:
            self._call("signalProcess", name, "HUP")
        except xmlrpc.client.Fault as fault:
            raise ServiceError(name, fault.faultString) from fault

    def shutdown(self, last: Collection[str] = ()) -> None:
        """Stops all programs, those in `last` after the others, then supervisord; waits for the end."""
        if not self.running:
            return
        names = self.states()
        for wave in ([n for n in names if n not in last], [n for n in names if n in last]):
            with ThreadPoolExecutor(max(1, len(wave))) as pool:
                list(pool.map(self.stop, wave))
        pid = self._call("getPID")
        self._call("shutdown")
        if not _wait_until(lambda: not psutil.pid_exists(pid), 60):
            raise ServiceError("supervisord", f"process {pid} does not end")

    def _call(self, method: str, *arguments: Any) -> Any:
        # A transport each: it is not safe between threads, and one that failed once stays broken.
        transport = SupervisorTransport(serverurl=f"unix://{socket_path(self._settings)}")
        with xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport) as rpc:
            return getattr(rpc.supervisor, method)(*arguments)


def orphans(settings: Settings, service: str = "") -> list[psutil.Process]:
    """Processes of this home, or of one of its services, that a killed supervisord has left.

    Every process that we start carries the home and its service's name in its environment, and so do its children.
    """
    found = []
    for process in psutil.process_iter():
        try:
            environment = process.environ()
        except (psutil.Error, OSError):
            continue
        ours = environment.get(_HOME) == str(settings.home) and _SERVICE in environment and process.pid != os.getpid()
        if ours and environment[_SERVICE] == (service or environment[_SERVICE]):
            found.append(process)
    return found


def end(processes: list[psutil.Process]) -> None:
    """Ends processes by SIGTERM, and after 20 s by SIGKILL."""
    for process in processes:
        try:
            process.terminate()
        except psutil.NoSuchProcess:
            continue
    _, alive = psutil.wait_procs(processes, timeout=20)
    for process in alive:
        process.kill()
    psutil.wait_procs(alive, timeout=10)


def _wait_until(condition: Any, seconds: float) -> bool:
    waiting = retry(
        retry=retry_if_result(lambda met: not met),
        stop=stop_after_delay(seconds),
        wait=wait_fixed(0.2),
        retry_error_callback=lambda _: False,
    )
    return bool(waiting(condition)())
