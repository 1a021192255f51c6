"""Spark's event logs, YARN archives and history server: what the platform prepares on HDFS before a job runs."""

from __future__ import annotations

import getpass
import subprocess
import tempfile
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import requests

from infra import jars
from infra.errors import ServiceError
from infra.jars import jvm
from infra.services.service import Service, http_problem, run_once
from infra.settings import Settings
from infra.spark import submit
from infra.spark.archives import Archive

_HISTORY_SERVER = "org.apache.spark.deploy.history.HistoryServer"


class Shell(Protocol):
    """Hadoop's `fs` commands on the HDFS in force."""

    def run(self, *arguments: str) -> None: ...

    def names(self, folder: str) -> set[str]: ...


class FsShell:
    """Runs Hadoop's own `fs` command: two seconds for a JVM each, but it supports every cluster and login.

    Raises ServiceError with the last line that a command printed.
    """

    def __init__(self, settings: Settings, environment: dict[str, str]) -> None:
        self._settings, self._environment = settings, environment
        self._log = settings.home / "logs" / "hdfs.log"

    def run(self, *arguments: str) -> None:
        """For example `run("-mkdir", "-p", folder)`."""
        run_once("hdfs", self._command(*arguments), self._log, self._environment)

    def names(self, folder: str) -> set[str]:
        """Names in the folder; none if it does not exist."""
        command = self._command("-ls", "-C", folder)
        done = subprocess.run(command, capture_output=True, text=True, env=self._environment, check=False)
        return {line.rsplit("/", 1)[-1] for line in done.stdout.splitlines()}

    def _command(self, *arguments: str) -> list[str]:
        settings = self._settings
        class_path = f"{submit.hadoop_conf_dir(settings)}:{jars.class_path(jars.jars('hadoop'))}"
        return jvm.command(settings, class_path, "org.apache.hadoop.fs.FsShell", *arguments, heap="256m")


def upload(settings: Settings, shell: Shell, wanted: Sequence[Archive]) -> list[str]:
    """Uploads the archives that HDFS lacks, and returns their names. Safe when several processes do it at once."""
    library = submit.library(settings)
    there = shell.names(library)
    missing = [archive for archive in wanted if archive.name not in there]
    if missing:
        shell.run("-mkdir", "-p", library)
    for archive in missing:
        # Under a name of our own first: a rename takes the final one, or finds it taken by the same content.
        hidden = f"{library}/.{archive.name}.{uuid.uuid4().hex}"
        with tempfile.TemporaryDirectory(dir=settings.home / "run") as folder:
            shell.run("-put", str(archive.write(Path(folder))), hidden)
        try:
            shell.run("-mv", hidden, f"{library}/{archive.name}")
        except ServiceError:
            shell.run("-rm", "-skipTrash", hidden)
            if archive.name not in shell.names(library):
                raise
    return [archive.name for archive in missing]


def make_event_logs(settings: Settings, environment: dict[str, str]) -> None:
    """Creates the folder of event logs, without which no job starts."""
    folder = submit.event_logs(settings)
    if not settings.hdfs.managed:
        FsShell(settings, environment).run("-mkdir", "-p", folder)
        return
    # Our own NameNode's web server does it at once.
    url = f"{settings.hdfs.http_address}/webhdfs/v1{folder}"
    answer = requests.put(url, params={"op": "MKDIRS", "user.name": getpass.getuser()}, timeout=30)
    if not answer.ok or not answer.json()["boolean"]:
        raise ServiceError("hdfs", f"{folder} can't be made: {answer.text[:300]}")


def history(settings: Settings) -> Service:
    """The history server, which shows finished jobs from their event logs."""
    spark, host = settings.spark, settings.hdfs.host
    conf = settings.home / "conf" / "spark"
    class_path = f"{conf}:{submit.hadoop_conf_dir(settings)}:{submit.spark_home()}/jars/*"
    command = jvm.command(settings, class_path, _HISTORY_SERVER, heap="512m")
    return Service(
        "history",
        lambda: http_problem(f"{history_url(settings)}/api/v1/version"),
        ["env", f"SPARK_LOCAL_IP={host}", *command],  # what it listens on
        {"SPARK__HISTORY_PORT": spark.history_port},
        host,
        after=["namenode", "datanode"],
    )


def history_url(settings: Settings) -> str:
    """Where the history server is."""
    return f"http://{settings.hdfs.host}:{settings.spark.history_port}"
