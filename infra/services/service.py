"""A service: how it is started, and how its health is checked."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import requests

from infra.errors import ServiceError


def nothing() -> None:
    """Does nothing; the default preparation."""


@dataclass(frozen=True)
class Service:
    """One server: a process of ours, or an existing one that settings point at (`command` is then empty).

    `problem` returns None if the server is healthy, else the reason. `ports` maps a setting's name to a port that
    the process opens. `prepare` runs before the process starts, `finish` once it is well; both may run again.
    """

    name: str
    problem: Callable[[], str | None]
    command: Sequence[str] = ()
    ports: Mapping[str, int] = field(default_factory=dict)
    host: str = "127.0.0.1"
    after: Sequence[str] = ()
    prepare: Callable[[], None] = nothing
    finish: Callable[[], None] = nothing
    reloads: bool = False  # by SIGHUP, worker by worker, without an interruption

    @property
    def managed(self) -> bool:
        return bool(self.command)

    @property
    def command_line(self) -> str:
        """The command line for supervisord's configuration, in which a percent sign is escaped."""
        return shlex.join(self.command).replace("%", "%%")


def http_problem(url: str, timeout: float = 3.0, verify: bool | str = True) -> str | None:
    """None if `url` answers 200, else the reason."""
    try:
        answer = requests.get(url, timeout=timeout, verify=verify)
    except requests.RequestException as error:
        return f"{url}: {type(error).__name__}"
    return None if answer.status_code == 200 else f"{url}: HTTP {answer.status_code}"


def run_once(service: str, command: Sequence[str], log: Path, environment: Mapping[str, str]) -> None:
    """Runs a preparing command to its end. Raises ServiceError with the last line that it printed."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        done = subprocess.run(command, stdout=output, stderr=output, env=dict(environment), check=False)
    if done.returncode:
        lines = log.read_text(errors="replace").strip().splitlines() or [""]
        raise ServiceError(service, f"{Path(command[0]).name} exited {done.returncode}: {lines[-1]} (log: {log})")
