"""`up`, `down` and `status`: the one-machine cluster as a whole."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import socket
import sys
import time
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

from infra.errors import ConfigurationError, ServiceError
from infra.jars import jvm
from infra.services import airflow, apps, configuration, hadoop, kafka, spark
from infra.services.service import Service
from infra.services.supervision import Supervisor, end, orphans
from infra.settings import PREFIX, Settings
from infra.spark import submit

_FREE_BYTES = 2 * 1024**3
_PATIENCE = 180.0  # seconds that a service may take to become well
# Stopped last: the sink publishes what it holds before it ends.
_SERVERS = ("kafka", "namenode", "datanode", "resourcemanager", "nodemanager")
Report = Callable[[str, str], None]  # (service, state)


def _to_nobody(service: str, state: str) -> None:
    """A Report that shows nothing."""


class Cluster:
    """The servers of one home: all, or `only` some.

    `extra` adds `yarn` (ResourceManager, NodeManager and history server) or `history` (the history server alone).
    """

    def __init__(self, settings: Settings, extra: Collection[str] = (), only: Collection[str] = ()) -> None:
        self.settings = settings
        self._only = only
        self.supervisor = Supervisor(settings)
        known = self.supervisor.states()
        self._yarn = "yarn" in extra or settings.spark.master == "yarn" or "nodemanager" in known
        managed = self._yarn and settings.spark.yarn_managed
        self._history = managed or "history" in extra or "history" in known

    def services(self) -> list[Service]:
        """Every server, in no order, external ones included."""
        environment = self.environment()
        every = [
            *kafka.services(self.settings, environment),
            *hadoop.services(self.settings, environment, self._yarn),
            *([spark.history(self.settings)] if self._history else []),
            *airflow.services(self.settings, environment),
            *apps.services(self.settings),
        ]
        unknown = set(self._only) - {service.name for service in every}
        if unknown:
            known = ", ".join(service.name for service in every)
            raise ServiceError(", ".join(sorted(unknown)), f"no such service; there are: {known}")
        return [service for service in every if not self._only or service.name in self._only]

    def environment(self) -> dict[str, str]:
        """The environment of every process: this one's, the settings, and the paths of Java, Spark and Hadoop."""
        settings, python = self.settings, Path(sys.executable)
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
        return {
            **inherited,
            **settings.to_env(),
            "PATH": f"{python.parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
            "JAVA_HOME": str(jvm.java_home(settings)),
            # Airflow's processes rename themselves, which must not overwrite the environment by which we know them.
            "SPT_NOENV": "1",
            "AIRFLOW_HOME": str(settings.home / "airflow"),
            "AIRFLOW_CONN_CLICKSTREAM_SPARK": json.dumps(airflow.spark_connection(settings)),
            "SPARK_HOME": str(submit.spark_home()),
            "SPARK_CONF_DIR": str(settings.home / "conf" / "spark"),
            **({"HADOOP_USER_NAME": settings.hdfs.user} if settings.hdfs.user else {}),
            **({"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": url} if (url := settings.airflow.metrics_url) else {}),
            "HADOOP_CONF_DIR": str(submit.hadoop_conf_dir(settings)),
            "YARN_CONF_DIR": str(submit.hadoop_conf_dir(settings)),
            "PYSPARK_PYTHON": settings.spark.python if settings.spark.master == "yarn" else str(python),
            "PYSPARK_DRIVER_PYTHON": str(python),
        }

    def up(self, report: Report = _to_nobody) -> dict[str, float]:
        """Starts what isn't running and waits until all services are healthy. Returns service -> seconds that it took.

        Raises ServiceError or ConfigurationError, after stopping what this call has started.
        """
        with self._exclusive():
            known = self.supervisor.states()
            services = self.services()
            if known:
                self._check_unchanged()
            else:
                end(orphans(self.settings))
            # One that has just died is started again at any moment, and then has its ports.
            alive = ("RUNNING", "STARTING", "BACKOFF", "EXITED")
            running = {name for name, info in known.items() if info["statename"] in alive}
            self._check_machine([s for s in services if s.managed and s.name not in running])
            managed = [service for service in services if service.managed]
            rendered = configuration.render(self.settings, managed, yarn=self._yarn)
            if known:
                self.supervisor.reload()
            else:
                self.supervisor.launch(rendered, self.environment())
            try:
                return self._start_all(services, report)
            except BaseException:
                if not running:
                    self.supervisor.shutdown(_SERVERS)
                else:
                    for service in services:
                        if service.managed and service.name not in running:
                            self.supervisor.stop(service.name)
                raise

    def down(self) -> None:
        """Stops every process of this home; the data stays."""
        with self._exclusive():
            self.supervisor.shutdown(_SERVERS)
            end(orphans(self.settings))

    def reload(self) -> list[str]:
        """Tells collector and web app to replace their workers one by one; returns those that were told."""
        states = self.supervisor.states()
        asked = [service.name for service in self.services() if service.reloads and service.name in states]
        for name in asked:
            self.supervisor.hang_up(name)
        return asked

    def status(self) -> dict[str, dict[str, Any]]:
        """service -> {state: healthy | unhealthy | stopped | external, pid, problem}."""
        states = self.supervisor.states()
        services = self.services()
        with ThreadPoolExecutor(len(services)) as pool:
            problems = list(pool.map(lambda service: service.problem(), services))
        found = {}
        for service, problem in zip(services, problems, strict=True):
            info = states.get(service.name, {})
            if service.managed and info.get("statename") not in ("RUNNING", "STARTING"):
                state = "stopped" if info.get("statename") in (None, "STOPPED", "EXITED") else info["statename"].lower()
            elif problem:
                state = "unhealthy"
            else:
                state = "healthy" if service.managed else "external"
            found[service.name] = {"state": state, "pid": info.get("pid") or None, "problem": problem}
        return found

    def _start_all(self, services: list[Service], report: Report) -> dict[str, float]:
        """Starts each service as soon as those it depends on are healthy, several at a time."""
        by_name = {service.name: service for service in services}
        order = TopologicalSorter({s.name: [a for a in s.after if a in by_name] for s in services})
        order.prepare()
        took: dict[str, float] = {}
        pending: set[Future[tuple[str, float]]] = set()
        with ThreadPoolExecutor(len(services)) as pool:
            while order.is_active():
                pending |= {pool.submit(self._start, by_name[name], report) for name in order.get_ready()}
                done, pending = wait(pending, return_when=FIRST_COMPLETED)
                for future in done:
                    name, took[name] = future.result()
                    order.done(name)
        return took

    def _start(self, service: Service, report: Report) -> tuple[str, float]:
        began = time.monotonic()
        report(service.name, "starting" if service.managed else "looking")
        if service.managed:
            service.prepare()
            self.supervisor.start(service.name)
        while problem := service.problem():
            if time.monotonic() - began > (_PATIENCE if service.managed else 20):
                raise ServiceError(service.name, f"{problem}{self._last_words(service)}")
            time.sleep(0.5)
        service.finish()
        report(service.name, "healthy")
        return service.name, round(time.monotonic() - began, 1)

    def _last_words(self, service: Service) -> str:
        log = self.log(service.name)
        if not service.managed or not log.exists():
            return ""
        lines = log.read_text(errors="replace").strip().splitlines() or [""]
        return f"; its last line: {lines[-1][:300]} (log: {log})"

    def log(self, service: str) -> Path:
        """The log file of a service."""
        return self.settings.home / "logs" / f"{service}.log"

    def _check_unchanged(self) -> None:
        """Raises ConfigurationError if running servers were started with other settings, which would then be mixed."""
        began, now = self.supervisor.environment(), self.settings.to_env()
        changed = [
            f"{name} has changed since the servers of {self.settings.home} were started: run `clickstream down` first"
            for name in sorted({*began, *now})
            if name.startswith(PREFIX) and "__" in name and began.get(name) != now.get(name)
        ]
        if changed:
            raise ConfigurationError(changed)

    def _check_machine(self, services: list[Service]) -> None:
        self.settings.home.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self.settings.home).free
        problems = []
        if free < _FREE_BYTES:
            problems.append(f"{PREFIX}HOME: {self.settings.home} has {free >> 20} MiB left, 2048 are needed")
        for service in services:
            for name, port in service.ports.items():
                if _taken(service.host, port):
                    problems.append(f"{PREFIX}{name}: port {port} of {service.host} is taken ({service.name})")
        if problems:
            raise ConfigurationError(problems)

    def urls(self) -> dict[str, str]:
        """Name -> URL of each user interface."""
        settings = self.settings
        found = {
            "collector": settings.collector.address,
            "webapp": settings.webapp.address,
            "airflow": settings.airflow.address,
        }
        if settings.hdfs.managed:
            found["namenode"] = f"http://{settings.hdfs.host}:{settings.hdfs.http_port}"
        if self._yarn and settings.spark.yarn_managed:
            found["yarn"] = f"http://{settings.hdfs.host}:{settings.spark.yarn_http_port}"
        if self._history:
            found["history"] = spark.history_url(settings)
        return found

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        """Holds the lock of `up` and `down`, which is released when the process ends."""
        (self.settings.home / "run").mkdir(parents=True, exist_ok=True)
        with (self.settings.home / "run" / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ServiceError("cluster", f"another up or down is at work in {self.settings.home}") from None
            yield


def _taken(host: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return True
    return False
