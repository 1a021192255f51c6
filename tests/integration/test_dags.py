"""Every DAG loads, explains itself, and has the order that the ledger's gates need."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any

import pytest
import structlog

from infra import submit
from infra.orchestrator import Orchestrator
from infra.services import airflow
from infra.settings import Settings
from processing import tables
from tests.conftest import free_ports

DAGS = Path(__file__).parents[2] / "dags"
AFTER = {
    "clickstream_hourly": {
        "take_cut": set(),
        "landed": {"take_cut"},
        "to_curate": {"landed", "take_cut"},
        "curate_events": {"to_curate"},
        "published": {"curate_events", "to_curate"},
        "quality": {"published", "to_curate"},
        "build_sessions": {"quality", "to_curate"},
        "build_features": {"quality", "take_cut"},
        "announced": {"build_sessions", "build_features", "take_cut"},
    },
    "clickstream_train": {
        "batch": set(),
        "build_examples": {"batch"},
        "train_recommender": {"batch"},
        "evaluate_recommender": {"batch", "train_recommender"},
        "compared": {"batch", "evaluate_recommender"},
        "train_click_models": {"batch", "build_examples"},
        "recommend_items": {"batch", "evaluate_recommender", "train_click_models"},
        "export_recommendations": {"batch", "recommend_items"},
        "verified": {"export_recommendations"},
    },
    "clickstream_rollback": {"rolled_back": set(), "verified": {"rolled_back"}},
    "clickstream_maintenance": {
        "compacted": set(),
        "audited": {"compacted"},
        "newest_batch": set(),
        "erase_people": {"newest_batch"},
        "maintain_tables": {"newest_batch"},
    },
    "clickstream_backfill": {
        "batches_to_curate_events": set(),
        "curate_events": {"batches_to_curate_events"},
        "published": {"batches_to_curate_events", "curate_events"},
        "batches_to_build_sessions": set(),
        "build_sessions": {"batches_to_build_sessions", "published"},
        "batches_to_build_features": set(),
        "build_features": {"batches_to_build_features", "build_sessions"},
        "batches_to_build_examples": set(),
        "build_examples": {"batches_to_build_examples", "build_features"},
    },
}


@pytest.fixture(scope="module")
def dagbag(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """All DAGs as an installation has them that cuts each hour."""
    with pytest.MonkeyPatch.context() as during:  # an Airflow that a later module starts must know nothing of it
        during.setenv("AIRFLOW_HOME", str(tmp_path_factory.mktemp("airflow")))
        during.setenv("AIRFLOW__CORE__LOAD_EXAMPLES", "False")
        during.setenv("AIRFLOW__CLICKSTREAM__SCHEDULE", "0 * * * *")
        during.setenv("AIRFLOW__CLICKSTREAM__START", "2026-05-01T12:00:00+00:00")
        from airflow.dag_processing.dagbag import BundleDagBag

        yield BundleDagBag(dag_folder=str(DAGS), bundle_path=DAGS)


@pytest.fixture(scope="module")
def stages(dagbag: Any) -> Any:
    """The module of which DAGs are made, importable since the DagBag found it."""
    import stages

    return stages


def jobs(dag: Any) -> list[Any]:
    return [task for task in dag.tasks if task.task_type == "SparkJob"]


def options(task: Any) -> dict[str, Any]:
    """What a job was given, mapped or not."""
    return task.partial_kwargs if task.is_mapped else vars(task)


def test_every_file_of_the_folder_gives_a_dag(dagbag: Any) -> None:
    assert not dagbag.import_errors
    assert set(dagbag.dags) == {file.stem for file in DAGS.glob("clickstream_*.py")} == set(AFTER)


READ = """
import json, runpy, sys, time
before, found = set(), {}
for file in sys.argv[1:]:
    began = time.perf_counter()
    runpy.run_path(file)
    found[file] = [time.perf_counter() - began, sorted(set(sys.modules) - before)]
    before |= set(sys.modules)
print(json.dumps(found))
"""


def test_reading_dags_imports_little_more_than_reading_an_empty_one(tmp_path: Path) -> None:
    """How long each took, in a process that has read an empty DAG before as Airflow's has, is printed."""
    empty = tmp_path / "empty.py"
    empty.write_text(
        "from airflow.providers.apache.spark.operators.spark_submit import SparkSubmitOperator\n"
        "from airflow.sdk import dag\n\n@dag\ndef empty() -> None: ...\n\nempty()\n"
    )
    files = [str(empty), *(str(DAGS / f"{name}.py") for name in AFTER)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(DAGS), *sys.path])}
    done = subprocess.run(
        [sys.executable, "-c", READ, *files], env=environment, capture_output=True, text=True, check=True
    )
    found = json.loads(done.stdout.splitlines()[-1])
    more = {module.split(".")[0] for file in files[1:] for module in found[file][1]}
    assert "infra" in more
    assert not more & {"pyspark", "pandas", "numpy", "pyarrow", "storage", "kafka", "hdfs_native", "mlflow"}, more
    print({Path(file).stem: round(seconds, 3) for file, (seconds, _) in found.items()})


def test_each_dag_explains_itself(dagbag: Any) -> None:
    for dag in dagbag.dags.values():
        assert dag.doc_md and dag.tags and dag.owner == "clickstream"
        assert all(dag.params.get_param(name).description for name in dag.params)
        assert all(task.doc or task.task_type in ("SparkJob", "Landed") or task.__doc__ for task in dag.tasks)


@pytest.mark.parametrize("name", AFTER)
def test_tasks_run_in_order_behind_their_gates(dagbag: Any, name: str) -> None:
    assert {task.task_id: task.upstream_task_ids for task in dagbag.dags[name].tasks} == AFTER[name]


def test_hours_are_run_one_after_the_other_and_none_is_left_out(dagbag: Any, stages: Any) -> None:
    dag = dagbag.dags["clickstream_hourly"]
    assert (type(dag.timetable).__name__, dag.timetable.expression) == ("CronDataIntervalTimetable", "0 * * * *")
    assert dag.catchup and dag.max_active_runs == 1
    assert dag.start_date.isoformat() == "2026-05-01T12:00:00+00:00"
    assert dagbag.dags["clickstream_train"].timetable.asset_condition.objects == (stages.FEATURES,)


def test_where_no_schedule_is_set_everything_waits_for_a_person(stages: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__CLICKSTREAM__SCHEDULE", "")
    assert stages.schedule() is None


def test_each_job_has_a_pool_for_one_writer_of_its_tables(dagbag: Any) -> None:
    found = [job for dag in dagbag.dags.values() for job in jobs(dag)]
    assert {job.task_id for job in found} == set(submit.jobs())
    for job in found:
        assert options(job)["job"] == job.task_id
        assert job.is_mapped or Path(job.application).stem == job.task_id
        # What erases people builds sessions, too.
        writer = "build_sessions" if job.task_id == "erase_people" else job.task_id
        assert options(job)["pool"] == submit.pool(writer)


def test_each_job_announces_the_tables_that_it_writes(dagbag: Any, stages: Any) -> None:
    written: dict[str, set[str]] = {}
    for table in tables.ALL:
        written.setdefault(table.job, set()).add(table.name)
    assert {job: set(names) for job, names in stages.TABLES.items()} == written
    for job in (job for dag in dagbag.dags.values() for job in jobs(dag)):
        assert {asset.name for asset in job.outlets} == {f"clickstream.db.{t}" for t in written.get(job.task_id, ())}


def test_mapped_jobs_take_one_batch_after_the_other(dagbag: Any) -> None:
    mapped = [job for dag in dagbag.dags.values() for job in jobs(dag) if job.is_mapped]
    assert len(mapped) == 6
    assert {options(job)["max_active_tis_per_dagrun"] for job in mapped} == {1}
    assert all(options(job)["pool"] == submit.pool(job.task_id) for job in mapped)


def test_what_a_retry_can_help_is_retried_ever_later(dagbag: Any) -> None:
    for dag in dagbag.dags.values():
        for job in jobs(dag):
            given = options(job)
            assert (given["retries"], given["retry_exponential_backoff"]) == (3, 2)
            assert given["on_failure_callback"]
        assert {task.task_id for task in dag.tasks if not task.retries} <= {"rolled_back"}  # twice would be one more


def test_a_run_of_any_dag_ends_though_its_tasks_never_have_a_slot(dagbag: Any) -> None:
    assert all(dag.dagrun_timeout for dag in dagbag.dags.values())


def function(dagbag: Any, dag: str, task: str) -> Any:
    """What a task of a DAG's own calls."""
    return dagbag.dags[dag].get_task(task).python_callable


@pytest.mark.parametrize("gate", ["take_cut", "landed", "to_curate", "published", "quality", "batch", "verified"])
def test_what_no_retry_mends_fails_for_good_and_an_hdfs_that_is_away_is_asked_again(
    dagbag: Any, stages: Any, monkeypatch: pytest.MonkeyPatch, gate: str
) -> None:
    from airflow.sdk.exceptions import AirflowFailException

    from storage.errors import BatchError, Unreachable

    class Gates:
        def take(self, *_: Any) -> Any:
            raise error

        landing = to_curate = check_published = check_quality = newest_curated = wait_until_served = take

    batch = function(dagbag, "clickstream_train", "batch")
    monkeypatch.setattr(stages, "gates", Gates)
    monkeypatch.setitem(batch.__globals__, "gates", Gates)
    asks = {
        "take_cut": partial(stages.take_cut.function, "b1", SimpleNamespace(run_type="manual")),
        "landed": partial(stages.Landed(task_id="landed", batch="b1").execute, {}),
        "batch": partial(batch, {"cut": ""}),
        "verified": stages.verified.function,
    }
    ask = asks.get(gate) or partial(getattr(stages, gate).function, "b1")
    error: Exception = BatchError("there is no cut b1")
    with pytest.raises(AirflowFailException, match="no cut b1"):
        ask()
    error = Unreachable("/", "hdfs://nowhere", "refused")
    with pytest.raises(Unreachable):
        ask()


def test_the_batch_is_the_newest_that_was_announced_whatever_events_a_person_makes(
    dagbag: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = function(dagbag, "clickstream_train", "batch")
    monkeypatch.setitem(batch.__globals__, "gates", lambda: SimpleNamespace(newest_curated=lambda: "newest"))
    extras = [{"from_rest_api": True}, {"batch": "b2"}, {"batch": "b1"}]
    events = [SimpleNamespace(extra=extra, timestamp=-at) for at, extra in enumerate(extras)]
    assert batch({"cut": ""}, {"features": events}) == "b2"
    assert batch({"cut": ""}, {"features": events[:1]}) == "newest"
    assert batch({"cut": "b7"}, {"features": events}) == "b7"


@pytest.mark.parametrize(("code", "for_good"), [(1, True), (2, True), (75, False)])
def test_a_command_is_done_again_only_where_a_server_did_not_answer(
    stages: Any, monkeypatch: pytest.MonkeyPatch, code: int, for_good: bool
) -> None:
    from airflow.sdk.exceptions import AirflowException, AirflowFailException

    ended = subprocess.CompletedProcess([], code, "", "clickstream: HDFS does not answer")
    monkeypatch.setattr(subprocess, "run", lambda *args, **options: ended)
    with pytest.raises(AirflowException, match=rf"audit exited {code}: .* does not answer") as failure:
        stages.command("audit")
    assert isinstance(failure.value, AirflowFailException) is for_good


def test_history_is_proved_whatever_compaction_says(dagbag: Any) -> None:
    audited = dagbag.dags["clickstream_maintenance"].get_task("audited")
    assert (audited.upstream_task_ids, audited.trigger_rule) == ({"compacted"}, "all_done")


class Submitted:
    """Stands for spark-submit, and for the ResourceManager that it is followed by: keeps what it was given."""

    def __init__(self, failure: Exception) -> None:
        self.failure = failure

    def __call__(self, operator: Any, context: Any) -> None:
        self.conf, self.arguments = operator.conf, operator.application_args
        self.followed = operator._yarn_track_via_rm_api
        raise self.failure


@pytest.mark.parametrize("in_container", [False, True])
@pytest.mark.parametrize(("code", "for_good"), [(1, False), (2, True), (3, False), (65, True)])
def test_a_job_that_only_a_person_can_help_fails_at_once(
    stages: Any, monkeypatch: pytest.MonkeyPatch, code: int, for_good: bool, in_container: bool
) -> None:
    from airflow.sdk.exceptions import AirflowException, AirflowFailException

    told = f"ended with final status: FAILED\nDiagnostics: User application exited with status {code}"
    here = AirflowException(f"Cannot execute: spark-submit. Error code is: {code}.")
    submitted = Submitted(RuntimeError(told) if in_container else here)
    yarn: dict[str, Any] = {"master": "yarn", "deploy_mode": "cluster", "yarn_url": "http://rm:8088"}
    connection = airflow.spark_connection(Settings(spark=yarn if in_container else {}))  # type: ignore[arg-type]
    monkeypatch.setattr(stages.SparkSubmitOperator, "execute", lambda *args: submitted(*args))
    monkeypatch.setenv("AIRFLOW_CONN_CLICKSTREAM_SPARK", json.dumps(connection))
    job = stages.SparkJob(task_id="curate_events", job="curate_events", batch="b1")
    with pytest.raises((AirflowException, RuntimeError)) as failure:
        job.execute({})
    assert isinstance(failure.value, AirflowFailException) is for_good
    assert submitted.followed is in_container
    assert submitted.arguments == ["--batch", "b1"]
    assert submitted.conf == {"spark.yarn.tags": submit.yarn_tag(Settings(), "curate_events", "b1")}


def test_a_missing_connection_is_named(stages: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.sdk.exceptions import AirflowFailException, AirflowNotFoundException

    def missing(name: str) -> None:
        raise AirflowNotFoundException(f"The conn_id `{name}` isn't defined")

    monkeypatch.setattr(stages.BaseHook, "get_connection", missing)
    with pytest.raises(AirflowFailException, match="`clickstream_spark` isn't defined"):
        stages.SparkJob(task_id="curate_events", job="curate_events", batch="b1").execute({})


def test_a_batch_that_does_not_land_in_time_fails_for_good(stages: Any) -> None:
    from airflow.sdk.exceptions import AirflowFailException

    landed = stages.Landed(task_id="landed", batch="b1")
    landed.landed({}, {"closed": ""})
    with pytest.raises(AirflowFailException, match=r"b1 did not land within 60 minutes: .* \{2: 7\}"):
        landed.landed({}, {"closed": "partition -> missing offsets {2: 7}"})


def test_the_wait_for_a_batch_survives_the_triggerer(dagbag: Any) -> None:
    from airflow.sdk.module_loading import import_string

    from storage.landing_trigger import LandingTrigger

    path, arguments = LandingTrigger("b1", 12.5).serialize()
    again = import_string(path)(**arguments)
    assert (again.batch, again.deadline) == ("b1", 12.5)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """What the webhook of the settings is sent; no Airflow runs there."""
    found: list[Any] = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            found.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Hook) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("CLICKSTREAM_AIRFLOW__NOTIFY_URL", f"http://127.0.0.1:{server.server_port}/")
        monkeypatch.setenv("CLICKSTREAM_AIRFLOW__PORT", str(free_ports()["airflow"]["port"]))
        yield found
        server.shutdown()


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
