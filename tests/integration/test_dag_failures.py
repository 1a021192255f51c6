"""Failures of tasks and runs are told to whoever is to know."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
import structlog

from infra.airflow.client import Orchestrator
from tests.support.listening import listening
from tests.support.ports import free_ports


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """What the webhook of the settings is sent; no Airflow runs there."""
    with listening() as heard:
        monkeypatch.setenv("CLICKSTREAM_AIRFLOW__NOTIFY_URL", f"{heard.url}/failed")
        monkeypatch.setenv("CLICKSTREAM_AIRFLOW__PORT", str(free_ports()["airflow"]["port"]))
        yield heard.failures


def test_a_failure_is_told_to_the_webhook(dagbag: Any, stages: Any, told: list[Any]) -> None:
    of = {"dag": dagbag.dags["clickstream_hourly"], "run_id": "r1"}
    task = SimpleNamespace(task_id="curate_events", try_number=4)
    stages.notify({**of, "task_instance": task, "exception": ValueError("no such batch")})
    stages.notify({**of, "task_instance": task})  # by Airflow's DAG processor, for a process that could not
    assert [(one["task_id"], one["try_number"], one["error"]) for one in told] == [
        ("curate_events", 4, "no such batch"),
        ("curate_events", 4, "its process was ended"),
    ]
    assert told[0]["url"].endswith("/dags/clickstream_hourly/runs/r1/tasks/curate_events")
    assert "clickstream_hourly.curate_events failed in run r1: no such batch" in told[0]["text"]


def run_failed(dagbag: Any, reason: str, last: str | None) -> None:
    """Has Airflow's DAG processor call back for a run of clickstream_hourly, with the context that it makes."""
    from airflow.api_fastapi.execution_api.datamodels.taskinstance import DagRun, TaskInstance
    from airflow.callbacks.callback_requests import DagCallbackRequest, DagRunContext
    from airflow.dag_processing.processor import _execute_dag_callbacks

    of = {"dag_id": "clickstream_hourly", "run_id": "r1"}
    times = ("logical_date", "data_interval_start", "data_interval_end", "run_after", "start_date", "end_date")
    described = of | dict.fromkeys(times, datetime.now(UTC)) | {"run_type": "scheduled", "state": "failed"}
    run = DagRun.model_validate(described | {"consumed_asset_events": [], "partition_key": None})
    ids = {"id": uuid.uuid4(), "dag_version_id": uuid.uuid4()}
    task = TaskInstance.model_validate({"task_id": last, "try_number": 1, **of, **ids}) if last else None
    context = DagRunContext(dag_run=run, last_ti=task)
    where = {"filepath": "clickstream_hourly.py", "bundle_name": "dags", "bundle_version": None}
    request = DagCallbackRequest.model_validate(where | of | {"msg": reason, "context_from_server": context})
    _execute_dag_callbacks(dagbag, request, structlog.get_logger())


@pytest.mark.parametrize("last", ["build_sessions", None])
def test_a_run_that_has_failed_names_the_tasks_that_could_not_tell_it(
    dagbag: Any, told: list[Any], monkeypatch: pytest.MonkeyPatch, last: str | None
) -> None:
    run_failed(dagbag, "task_failure", last)
    troubles = {"build_sessions": "waits for pool clickstream_build_sessions, of whose 1 slots none is free"}
    monkeypatch.setattr(Orchestrator, "troubles", lambda *_: {"curate_events": "failed"} | troubles)
    run_failed(dagbag, "timed_out", last)
    assert [(one["dag_id"], one["run_id"], one["task_id"]) for one in told] == [("clickstream_hourly", "r1", None)] * 2
    assert told[0]["error"].startswith("task_failure; ") and "CLICKSTREAM_AIRFLOW__URL" in told[0]["error"]
    assert told[1]["error"] == f"timed_out; curate_events failed; build_sessions {troubles['build_sessions']}"
    assert told[1]["url"].endswith("/dags/clickstream_hourly/runs/r1")


def test_a_webhook_that_nobody_listens_to_is_told_in_the_log(
    dagbag: Any, stages: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CLICKSTREAM_AIRFLOW__NOTIFY_URL", "http://127.0.0.1:1/")
    task = SimpleNamespace(task_id="curate_events", try_number=4)
    stages.notify({"dag": dagbag.dags["clickstream_hourly"], "run_id": "r1", "task_instance": task})
    assert "airflow.notify_url was not told" in capsys.readouterr().out
