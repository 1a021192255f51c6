"""A client of Airflow's REST API for the command line."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3 import Retry

from infra.airflow.secrets import password
from infra.errors import ServiceError
from infra.settings import Settings

_ENDED = ("success", "failed")
_TIMEOUT = 30.0  # s
_PAGE = 100  # Airflow's default for the most that it gives at once

# A machine that is busy keeps Airflow from answering for a while. Nothing asked here does harm when it is done twice.
_RETRIES = Retry(
    4, connect=1, backoff_factor=1, status_forcelist=(502, 503, 504), allowed_methods=None, raise_on_status=False
)


class Orchestrator:
    """A session with one Airflow. Raises ServiceError with Airflow's message when it refuses a request."""

    def __init__(self, settings: Settings, pause: float = 1.0) -> None:
        """`pause`: seconds between two questions about something that is awaited."""
        self._settings, self._pause = settings, pause
        self._session = requests.Session()
        self._session.mount(settings.airflow.address, HTTPAdapter(max_retries=_RETRIES))

    def trigger(self, dag_id: str, conf: Mapping[str, Any], patience: float = 90.0) -> str:
        """Starts a run now and returns its id. Waits up to `patience` seconds until Airflow has read the DAG's file.

        Raises ServiceError, which names the DAG files with import errors, if there is no such DAG by then.
        """
        deadline = time.monotonic() + patience
        run_id = f"manual__{datetime.now(UTC).isoformat()}_{secrets.token_hex(4)}"
        while True:
            body = {"dag_run_id": run_id, "logical_date": None, "conf": dict(conf)}
            answer = self._request("POST", f"dags/{dag_id}/dagRuns", body)
            if answer.status_code == 409:  # an earlier try has started it, though its answer was lost
                return run_id
            known = answer.status_code != 404
            if known and "has import errors" not in answer.text:
                return str(self._checked(answer)["dag_run_id"])
            broken = self.broken_files()
            if known or time.monotonic() > deadline or any(Path(file).stem == dag_id for file in broken):
                told = "; ".join(f"{file} can't be read: {why}" for file, why in broken.items())
                what = f"{dag_id} can't be run" if known else f"there is no DAG {dag_id}"
                raise ServiceError("airflow", f"{what}: {told or answer.url}")
            time.sleep(self._pause)

    def check_not_paused(self, dag_id: str) -> None:
        """Raises ServiceError if the DAG is paused, so that a run would wait. Accepts an unknown DAG."""
        answer = self._request("GET", f"dags/{dag_id}")
        if answer.status_code != 404 and self._checked(answer)["is_paused"]:
            where = f"{self._settings.airflow.address}/dags/{dag_id}"
            raise ServiceError("airflow", f"{dag_id} is paused, a run would wait for ever: unpause it at {where}")

    def broken_files(self) -> dict[str, str]:
        """DAG file -> last line of its import error."""
        found = self._all("importErrors", "import_errors")
        return {one["filename"]: one["stack_trace"].strip().splitlines()[-1] for one in found}

    def follow(self, dag_id: str, run_id: str, report: Callable[[dict[str, str]], None]) -> dict[str, Any]:
        """Waits for the run's end, and reports each task's state, or what it waits for.

        Returns {dag_id, run_id, state, seconds: {task: s}, failed: {task: end of its log}}.
        """
        while True:
            run = self._checked(self._request("GET", f"dags/{dag_id}/dagRuns/{run_id}"))
            instances = self._tasks(dag_id, run_id)
            held_up = self._held_up(task for task in instances if task["state"] == "scheduled")
            report({name: held_up.get(name, task["state"] or "waiting") for name, task in _by_label(instances)})
            if run["state"] in _ENDED:
                seconds = {_label(task): round(task["duration"] or 0.0, 1) for task in instances}
                failed = {_label(task): task for task in instances if task["state"] == "failed"}
                logs = {name: self._log_of(dag_id, run_id, task) for name, task in failed.items()}
                return {"dag_id": dag_id, "run_id": run_id, "state": run["state"], "seconds": seconds, "failed": logs}
            time.sleep(self._pause)

    def troubles(self, dag_id: str, run_id: str) -> dict[str, str]:
        """Task -> its trouble: it failed, or a pool keeps it from starting; also for a run that has ended."""
        tasks = self._tasks(dag_id, run_id)
        failed = {name: "failed" for name, task in _by_label(tasks) if task["state"] == "failed"}
        behind = (*_ENDED, "upstream_failed")
        return failed | self._held_up(task for task in tasks if not task["start_date"] and task["state"] not in behind)

    def _held_up(self, tasks: Iterable[Mapping[str, Any]]) -> dict[str, str]:
        found = {}
        for name, task in _by_label(tasks):
            answer = self._request("GET", f"pools/{task['pool']}")
            if answer.status_code == 404:
                found[name] = f"waits for pool {task['pool']}, which does not exist"
            elif (pool := self._checked(answer))["slots"] >= 0 >= pool["open_slots"]:  # below 0: as many as one likes
                found[name] = f"waits for pool {task['pool']}, of whose {pool['slots']} slots none is free"
        return found

    def _tasks(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """The run's task instances, ordered by start."""
        tasks = self._all(f"dags/{dag_id}/dagRuns/{run_id}/taskInstances", "task_instances")
        return sorted(tasks, key=lambda task: task["start_date"] or "9")

    def woken_for(self, batch: str, dag_id: str, patience: float = 900.0) -> str:
        """The asset-triggered run of `dag_id` whose task `batch` returned this batch. Raises ServiceError if there is
        none within `patience` seconds; earlier runs may go first."""
        deadline = time.monotonic() + patience
        while True:
            newest = self._all(f"dags/{dag_id}/dagRuns", "dag_runs", "order_by=-run_after&")
            for run in islice(newest, _PAGE):
                if run["run_type"] == "asset_triggered" and self._returned(dag_id, run["dag_run_id"], "batch") == batch:
                    return str(run["dag_run_id"])
            if time.monotonic() > deadline:
                text = f"{dag_id} was not woken for {batch} within {patience:.0f} s: is it paused?"
                raise ServiceError("airflow", text)
            time.sleep(self._pause)

    def _returned(self, dag_id: str, run_id: str, task_id: str) -> Any:
        """A task's return value (XCom); None if there is none yet."""
        path = f"dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/xcomEntries/return_value"
        answer = self._request("GET", path)
        return None if answer.status_code == 404 else self._checked(answer)["value"]

    def runs(self, dag_id: str) -> list[dict[str, Any]]:
        """All runs of a DAG as Airflow describes them, the oldest first."""
        return list(self._all(f"dags/{dag_id}/dagRuns", "dag_runs", "order_by=run_after&"))

    def _all(self, path: str, name: str, query: str = "") -> Iterator[dict[str, Any]]:
        """Every element of a paged collection."""
        seen, total = 0, 1
        while seen < total:
            page = self._checked(self._request("GET", f"{path}?{query}limit={_PAGE}&offset={seen}"))
            yield from page[name]
            total, seen = page["total_entries"], seen + max(len(page[name]), 1)

    def clear(self, dag_id: str, run_id: str) -> None:
        """Clears a run, so that all its tasks run again."""
        body = {"dag_run_id": run_id, "dry_run": False, "only_failed": False}
        self._checked(self._request("POST", f"dags/{dag_id}/clearTaskInstances", body))

    def log(self, dag_id: str, run_id: str, task_id: str, try_number: int, map_index: int = -1) -> str:
        """What a try of a task has logged, a line for each event; empty before it begins."""
        path = f"dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/logs/{try_number}?map_index={map_index}"
        answer = self._request("GET", path)
        if answer.status_code == 404:
            return ""
        return "\n".join(_line(entry) for entry in self._checked(answer)["content"])

    def _log_of(self, dag_id: str, run_id: str, task: Mapping[str, Any], lines: int = 12) -> str:
        log = self.log(dag_id, run_id, task["task_id"], task["try_number"], task["map_index"])
        return "\n".join(log.splitlines()[-lines:])

    def page(self, dag_id: str, run_id: str) -> str:
        """The URL of the run's page."""
        return f"{self._settings.airflow.address}/dags/{dag_id}/runs/{run_id}"

    def ensure_pool(self, name: str, slots: int) -> None:
        """Creates a pool unless it exists."""
        answer = self._request("POST", "pools", {"name": name, "slots": slots, "description": "clickstream"})
        if answer.status_code != 409:
            self._checked(answer)

    def _request(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> requests.Response:
        url = f"{self._settings.airflow.address}/api/v2/{path}"
        try:
            answer = self._session.request(method, url, json=body, timeout=_TIMEOUT)
            if answer.status_code in (401, 403):
                self._log_in()
                answer = self._session.request(method, url, json=body, timeout=_TIMEOUT)
        except requests.RequestException as error:
            raise ServiceError("airflow", f"{url} (CLICKSTREAM_AIRFLOW__URL): {error}") from error
        return answer

    def _log_in(self) -> None:
        login = {"username": self._settings.airflow.username, "password": password(self._settings)}
        answer = self._session.post(f"{self._settings.airflow.address}/auth/token", json=login, timeout=_TIMEOUT)
        self._session.headers["Authorization"] = f"Bearer {self._checked(answer)['access_token']}"

    def _checked(self, answer: requests.Response) -> dict[str, Any]:
        if not answer.ok:
            raise ServiceError(
                "airflow", f"{answer.request.method} {answer.url}: {answer.status_code} {answer.text[:300]}"
            )
        found: dict[str, Any] = answer.json()
        return found


def _by_label(tasks: Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    return ((_label(task), task) for task in tasks)


def _label(task: Mapping[str, Any]) -> str:
    """The task's name, with its index if it is a mapped task after the first."""
    return str(task["task_id"]) + (f"[{task['map_index']}]" if task["map_index"] > 0 else "")


def _line(entry: Mapping[str, Any] | str) -> str:
    """A line of a task's log, with its error if it has one."""
    if isinstance(entry, str):
        return entry
    errors = [f"{error.get('exc_type')}: {error.get('exc_value')}" for error in entry.get("error_detail") or []]
    return " ".join([str(entry.get("event", "")), *errors])
