"""A PostgreSQL server of a test's own."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from tests.support.ports import free_ports


@dataclass(frozen=True)
class Postgres:
    """A database server, its superuser's URL, and how it is started and stopped."""

    url: str
    start: Callable[[], None]
    stop: Callable[[], None]


@contextmanager
def postgres_server() -> Iterator[Postgres]:
    """A server that runs; skips where Debian's package is missing."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not found:
        pytest.skip("PostgreSQL (Debian: postgresql) is not installed")
    port, as_user = free_ports()["kafka"]["port"], []
    # Not below pytest's folder, which is closed to others.
    with tempfile.TemporaryDirectory(prefix="clickstream-postgres-") as folder:
        if os.geteuid() == 0:  # it refuses to be run by root
            shutil.chown(folder, "postgres")
            as_user = ["runuser", "-u", "postgres", "--"]

        def run(program: str, *arguments: str) -> None:
            subprocess.run([*as_user, str(found[-1] / program), "-D", f"{folder}/data", *arguments], check=True)

        run("initdb", "-U", "airflow", "-A", "trust")
        options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder}"
        start = partial(run, "pg_ctl", "-o", options, "-l", f"{folder}/log", "-w", "start")
        stop = partial(run, "pg_ctl", "-m", "immediate", "stop")
        start()
        try:
            yield Postgres(f"postgresql://airflow@127.0.0.1:{port}/postgres", start, stop)
        finally:
            stop()
