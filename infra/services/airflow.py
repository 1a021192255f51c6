"""Airflow's four processes on a database of their own, or the installation that `airflow.url` names."""

from __future__ import annotations

import sys
import threading
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import requests

from infra.services.service import Service, nothing, run_once
from infra.settings import Settings
from infra.spark import submit

_PROCESSES = ("api-server", "scheduler", "dag-processor", "triggerer")


def services(settings: Settings, environment: dict[str, str]) -> list[Service]:
    """api-server, scheduler, dag-processor and triggerer, all after one migration of the database."""
    if not settings.airflow.managed:
        return [Service("airflow", partial(_problem, settings, "metadatabase"), finish=partial(_make_pools, settings))]
    airflow = settings.airflow
    executable = str(Path(sys.executable).with_name("airflow"))
    succeed = [sys.executable, "-m", "infra.services.succession"]
    lock, migrated = threading.Lock(), threading.Event()

    def migrate() -> None:
        with lock:
            if not migrated.is_set():
                log = settings.home / "logs" / "airflow-migrate.log"
                run_once("airflow", [executable, "db", "migrate"], log, environment)
                migrated.set()

    ports = {
        "api-server": {"AIRFLOW__PORT": airflow.port},
        "scheduler": {"AIRFLOW__LOG_PORT": airflow.log_port},
        "triggerer": {"AIRFLOW__TRIGGER_LOG_PORT": airflow.trigger_log_port},
    }
    return [
        Service(
            f"airflow-{name}",
            partial(_problem, settings, _HEALTH[name]),
            [*succeed, f"airflow-{name}", executable, name],
            ports.get(name, {}),
            airflow.host,
            prepare=migrate,
            finish=partial(_make_pools, settings) if name == "api-server" else nothing,
        )
        for name in _PROCESSES
    ]


def spark_connection(settings: Settings) -> dict[str, Any]:
    """Airflow's connection to Spark; with YARN's address, by which tasks follow and end a driver in a container."""
    spark, extra = settings.spark, {}
    managed = f"http://{settings.hdfs.host}:{spark.yarn_http_port}" if spark.yarn_managed else ""
    if spark.master == "yarn" and spark.deploy_mode == "cluster" and (url := spark.yarn_url or managed):
        extra = {"deploy-mode": "cluster", "yarn_resourcemanager_webapp_address": url}
    return {"conn_type": "spark", "host": spark.master, "extra": extra}


def _make_pools(settings: Settings) -> None:
    """Creates the pools of all jobs: a task whose pool does not exist would wait for ever."""
    from infra.airflow.client import Orchestrator

    orchestrator = Orchestrator(settings)
    for job in submit.jobs():
        orchestrator.ensure_pool(submit.pool(job), 1)


_HEALTH = {
    "api-server": "metadatabase",
    "scheduler": "scheduler",
    "dag-processor": "dag_processor",
    "triggerer": "triggerer",
}


def _problem(settings: Settings, component: str) -> str | None:
    url = f"{settings.airflow.address}/api/v2/monitor/health"
    try:
        answer = requests.get(url, timeout=3)
        status = answer.json()[component]["status"]
    except (requests.RequestException, ValueError, LookupError, TypeError) as error:
        return f"{url}: {type(error).__name__}"
    return None if status == "healthy" else f"{url} says {component} is {status}"


def first_start(settings: Settings) -> str:
    """The hour of this installation's first start, ISO 8601; no data interval before it is run."""
    file = settings.home / "airflow" / "first_start"
    if not file.exists():
        now = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
        file.write_text(now.isoformat())
    return file.read_text()
