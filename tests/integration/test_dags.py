"""Every DAG loads, explains itself, and has the order that the ledger's gates need."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from infra import project
from infra.services import airflow
from infra.settings import Settings
from infra.spark import submit
from processing.tables import schemas

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
        "train_ranker": {"batch", "build_examples", "evaluate_recommender"},
        "compared": {"batch", "train_ranker"},
        "train_click_models": {"batch", "build_examples"},
        "recommend_items": {"batch", "train_ranker"},
        "export_recommendations": {"batch", "recommend_items"},
        "verified": {"export_recommendations"},
    },
    "clickstream_rollback": {"rolled_back": set(), "verified": {"rolled_back"}},
    "clickstream_maintenance": {
        "compacted": set(),
        "audited": {"compacted"},
        "failed": {"compacted"},
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
        assert all(task.doc or task.task_type in ("SparkJob", "LandingGate") or task.__doc__ for task in dag.tasks)


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
    for table in schemas.ALL:
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
        assert {task.task_id for task in dag.tasks if not task.retries} <= {
            "rolled_back",
            "failed",
        }  # twice is one more


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

        current_ledger = to_curate = check_published = check_quality = newest_curated = wait_until_served = take

    batch = function(dagbag, "clickstream_train", "batch")
    monkeypatch.setattr(stages, "gates", Gates)
    monkeypatch.setitem(batch.__globals__, "gates", Gates)
    asks = {
        "take_cut": partial(stages.take_cut.function, "b1", SimpleNamespace(run_type="manual")),
        "landed": partial(stages.LandingGate(task_id="landed", batch="b1").execute, {}),
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


def test_no_task_fails_without_its_run(dagbag: Any) -> None:
    """A run is what its last tasks are."""

    def tells(task: Any) -> bool:
        return not task.downstream_list or any(
            after.trigger_rule != "all_done" and tells(after) for after in task.downstream_list
        )

    silent = {f"{name}.{task.task_id}" for name, dag in dagbag.dags.items() for task in dag.tasks if not tells(task)}
    assert not silent


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
    mode = "cluster" if in_container else "client"
    yarn: dict[str, Any] = {"master": "yarn", "deploy_mode": mode, "yarn_url": "http://rm:8088"}
    connection = airflow.spark_connection(Settings(spark=yarn))  # type: ignore[arg-type]
    monkeypatch.setattr(stages.SparkSubmitOperator, "execute", lambda *args: submitted(*args))
    monkeypatch.setenv("AIRFLOW_CONN_CLICKSTREAM_SPARK", json.dumps(connection))
    job = stages.SparkJob(task_id="curate_events", job="curate_events", batch="b1")
    with pytest.raises((AirflowException, RuntimeError)) as failure:
        job.execute({})
    assert isinstance(failure.value, AirflowFailException) is for_good
    assert submitted.followed is in_container
    assert submitted.arguments == ["--batch", "b1"]
    assert submitted.conf == {"spark.yarn.tags": submit.yarn_tag(Settings(), "curate_events", "b1")}


@pytest.mark.parametrize(("code", "for_good"), [(0, None), (1, False), (2, True), (65, True)])
def test_on_one_machine_a_job_is_asked_of_its_runs_driver_and_its_exit_code_means_the_same(
    stages: Any, monkeypatch: pytest.MonkeyPatch, code: int, for_good: bool | None
) -> None:
    from airflow.sdk.exceptions import AirflowException, AirflowFailException

    from infra.spark import drivers

    asked = []

    def run(client: Any, *request: Any) -> int:
        asked.append((client._drivers._command, *request))
        return code

    monkeypatch.setattr(drivers.Client, "run", run)
    monkeypatch.setenv("CLICKSTREAM_HOME", "/tmp/home")  # of a short path, since a socket's is; nothing is written
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)  # where spark-submit is
    monkeypatch.setenv("AIRFLOW_CONN_CLICKSTREAM_SPARK", json.dumps(airflow.spark_connection(Settings())))
    job = stages.SparkJob(task_id="export", job="export_recommendations", batch="b1")
    context = {"dag": SimpleNamespace(dag_id="d"), "run_id": "r"}
    if for_good is None:
        job.execute(context)
    else:
        with pytest.raises(AirflowException) as failure:
            job.execute(context)
        assert isinstance(failure.value, AirflowFailException) is for_good
    command = ["spark-submit", "--master", "local[2]", "--name", "driver", str(project.DRIVER)]
    assert asked == [(command, "d r", "export_recommendations", "b1", {})]


def test_a_missing_connection_is_named(stages: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.sdk.exceptions import AirflowFailException, AirflowNotFoundException

    def missing(name: str) -> None:
        raise AirflowNotFoundException(f"The conn_id `{name}` isn't defined")

    monkeypatch.setattr(stages.BaseHook, "get_connection", missing)
    with pytest.raises(AirflowFailException, match="`clickstream_spark` isn't defined"):
        stages.SparkJob(task_id="curate_events", job="curate_events", batch="b1").execute({})


def test_a_batch_that_does_not_land_in_time_fails_for_good(stages: Any) -> None:
    from airflow.sdk.exceptions import AirflowFailException

    landed = stages.LandingGate(task_id="landed", batch="b1")
    landed.landed({}, {"closed": ""})
    with pytest.raises(AirflowFailException, match=r"b1 did not land within 60 minutes: .* \{2: 7\}"):
        landed.landed({}, {"closed": "partition -> missing offsets {2: 7}"})


def test_the_wait_for_a_batch_survives_the_triggerer(dagbag: Any) -> None:
    from airflow.sdk.module_loading import import_string

    from storage.batches.airflow_trigger import LandingTrigger

    path, arguments = LandingTrigger("b1", 12.5).serialize()
    again = import_string(path)(**arguments)
    assert (again.batch, again.deadline) == ("b1", 12.5)
