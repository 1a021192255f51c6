"""Airflow's REST API: what the command line asks of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import requests

from infra.errors import ServiceError
from infra.services.airflow import password
from infra.settings import Settings

_ENDED = ("success", "failed")


class Orchestrator:
    """A session with one Airflow. Raises ServiceError with Airflow's own words when it refuses."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._session = requests.Session()

    def trigger(self, dag_id: str, conf: Mapping[str, Any], patience: float = 90.0) -> str:
        """Starts a run now; its id. Waits up to `patience` seconds for Airflow to have read the DAG's file."""
        deadline = time.monotonic() + patience
        while True:
            answer = self._request("POST", f"dags/{dag_id}/dagRuns", {"logical_date": None, "conf": dict(conf)})
            if answer.status_code != 404 or time.monotonic() > deadline:
                return str(self._checked(answer)["dag_run_id"])
            time.sleep(1)

    def follow(self, dag_id: str, run_id: str, report: Callable[[dict[str, str]], None]) -> dict[str, Any]:
        """Waits for the run's end, reporting task -> state; {dag_id, state, seconds: {task: s}}."""
        while True:
            run = self._checked(self._request("GET", f"dags/{dag_id}/dagRuns/{run_id}"))
            tasks = self._checked(self._request("GET", f"dags/{dag_id}/dagRuns/{run_id}/taskInstances"))
            instances = sorted(tasks["task_instances"], key=lambda task: task["start_date"] or "9")
            report({task["task_id"]: task["state"] or "waiting" for task in instances})
            if run["state"] in _ENDED:
                seconds = {task["task_id"]: round(task["duration"] or 0.0, 1) for task in instances}
                failed = [task["task_id"] for task in instances if task["state"] == "failed"]
                return {"dag_id": dag_id, "run_id": run_id, "state": run["state"], "seconds": seconds, "failed": failed}
            time.sleep(1)

    def ensure_pool(self, name: str, slots: int) -> None:
        """Creates a pool unless it exists."""
        answer = self._request("POST", "pools", {"name": name, "slots": slots, "description": "clickstream"})
        if answer.status_code != 409:
            self._checked(answer)

    def _request(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> requests.Response:
        url = f"{self._settings.airflow.address}/api/v2/{path}"
        try:
            answer = self._session.request(method, url, json=body, timeout=30)
            if answer.status_code in (401, 403):
                self._log_in()
                answer = self._session.request(method, url, json=body, timeout=30)
        except requests.RequestException as error:
            raise ServiceError("airflow", f"{url} (CLICKSTREAM_AIRFLOW__URL): {error}") from error
        return answer

    def _log_in(self) -> None:
        login = {"username": self._settings.airflow.username, "password": password(self._settings)}
        answer = self._session.post(f"{self._settings.airflow.address}/auth/token", json=login, timeout=30)
        self._session.headers["Authorization"] = f"Bearer {self._checked(answer)['access_token']}"

    def _checked(self, answer: requests.Response) -> dict[str, Any]:
        if not answer.ok:
            raise ServiceError(
                "airflow", f"{answer.request.method} {answer.url}: {answer.status_code} {answer.text[:300]}"
            )
        found: dict[str, Any] = answer.json()
        return found
