"""Airflow left alone: it catches up on what it missed, and a task that dies is done again without a doubled row."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import psycopg
import pytest

from infra.airflow.client import Orchestrator
from infra.services.cluster import Cluster
from infra.services.supervision import orphans
from infra.settings import Settings
from processing.tables import feature_schemas, iceberg, schemas
from storage.batches import cuts, ledger
from storage.hdfs import Hdfs
from storage.layout import Layout
from tests.support.listening import Heard, listening
from tests.support.ports import free_ports
from tests.support.postgres import Postgres, postgres_server
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = pytest.mark.cluster

COMMAND = Path(sys.executable).with_name("clickstream")
HOURLY, BACKFILL, MAINTENANCE = "clickstream_hourly", "clickstream_backfill", "clickstream_maintenance"
COMPARED = (
    *(schemas.EVENTS, schemas.DUPLICATES, schemas.SESSIONS, schemas.IDENTITIES),
    *(feature_schemas.INTERACTIONS, feature_schemas.ITEM_FEATURES, feature_schemas.VISITOR_FEATURES),
)


@pytest.fixture(scope="module")
def heard() -> Iterator[Heard]:
    with listening() as found:
        yield found


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with postgres_server() as server:
        yield server


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory, postgres: Postgres, heard: Heard) -> Iterator[Settings]:
    """A whole platform that was installed two hours ago and whose Airflow was down since; it is on PostgreSQL, and
    tells lineage, metrics and failures."""
    home = tmp_path_factory.mktemp("airflow")
    ports = free_ports()
    ended = datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(minutes=1)  # so none ends in the midst of it
    schedule = f"{ended.minute} * * * *"
    airflow = ports["airflow"] | {"schedule": schedule, "database": postgres.url}
    airflow |= {"metrics_url": f"{heard.url}/v1/metrics", "notify_url": f"{heard.url}/failed"}
    lineage = {"url": f"file://{home}/lineage.jsonl"}
    settings = Settings(home=home, **ports | {"airflow": airflow, "lineage": lineage})  # type: ignore[arg-type]
    (home / "airflow").mkdir()
    (home / "airflow" / "first_start").write_text((ended - timedelta(hours=2)).isoformat())
    cluster = Cluster(settings)
    try:
        clickstream(settings, "up")
        eventually(partial(paused, Orchestrator(settings), "clickstream_train"), 60)  # e2e has it run
        yield settings
    finally:
        cluster.down()


def clickstream(settings: Settings, *arguments: str) -> Any:
    """A command as a person runs it; its facts."""
    environment = {**os.environ, **settings.to_env()}
    done = subprocess.run([COMMAND, *arguments, "--json"], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{arguments}: {done.stderr[-3000:]}"
    return json.loads(done.stdout)


def paused(airflow: Orchestrator, dag: str) -> bool:
    """Pauses a DAG, once Airflow has read its file."""
    return airflow._request("PATCH", f"dags/{dag}", {"is_paused": True}).ok


def named(settings: Settings, *words: str) -> list[psutil.Process]:
    """The platform's processes in whose command line all these words are."""
    found = []
    for process in orphans(settings):
        try:
            line = " ".join(process.cmdline())
        except psutil.NoSuchProcess:
            continue
        if all(word in line for word in words):
            found.append(process)
    return found


def kill(processes: list[psutil.Process]) -> None:
    for process in processes:
        process.kill()
    psutil.wait_procs(processes, timeout=10)


def suspend(processes: list[psutil.Process]) -> None:
    for process in processes:
        process.suspend()


def running(settings: Settings, job: str) -> list[psutil.Process]:
    """The processes, Python and Java, of drivers that run a job, of whichever batch."""
    found = []
    for record in (settings.home / "run" / "jobs").glob(f"{job}-*.json"):
        for pid in {one["pid"] for one in json.loads(record.read_text())["processes"]}:
            with suppress(psutil.NoSuchProcess):
                found.append(psutil.Process(pid))
    return living(found)


def at_work(settings: Settings, job: str, batch: str) -> list[psutil.Process]:
    """The processes of a job's driver, Python and Java, once it is in the midst of a batch."""
    fs, layout = Hdfs(settings), Layout(settings.hdfs.root, settings.kafka.topic)
    checkpoints = f"{settings.hdfs.root}/checkpoints/{job}/batch={cuts.get(fs, layout, batch).number}"
    eventually(lambda: fs.exists(checkpoints), 300)
    found = running(settings, job)
    assert {"java", "python"} <= {process.name().rstrip("0123456789.") for process in found}
    return found


def workers(settings: Settings) -> list[psutil.Process]:
    """Airflow's processes that run a task and follow its driver, but for the scheduler."""
    tasks = [process for process in named(settings, "airflow worker -- ") if "LocalExecutor" not in cmdline(process)]
    airflow = {process for task in tasks for process in (task, *task.parents()) if "airflow" in process.name()}
    found = [process for process in airflow if "scheduler" not in cmdline(process)]
    assert found
    return found


def cmdline(process: psutil.Process) -> str:
    return " ".join(process.cmdline())


def living(processes: list[psutil.Process]) -> list[psutil.Process]:
    return [one for one in processes if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]


def stopped_in_transaction(process: psutil.Process, database: str) -> bool:
    """Stops a process; whether it has written something that it has not committed. If not, the process goes on."""
    process.suspend()
    ports = [connection.laddr.port for connection in process.net_connections() if connection.laddr]
    query = """SELECT count(*) FROM pg_stat_activity JOIN pg_locks USING (pid)
        WHERE state = 'idle in transaction' AND locktype = 'transactionid' AND client_port = ANY(%s)"""
    with closing(psycopg.connect(database)) as connection, connection.cursor() as cursor:
        cursor.execute(query, (ports,))
        [(held,)] = cursor.fetchall()
    if not held:
        process.resume()
    return bool(held)


def state(airflow: Orchestrator, dag: str, run_id: str, task_id: str) -> str | None:
    """Of a task; None before it is scheduled."""
    return next(one["state"] for one in airflow._tasks(dag, run_id) if one["task_id"] == task_id)


def tries(airflow: Orchestrator, run_id: str, task_id: str) -> int:
    """How often a task of an hour was begun."""
    return max(one["try_number"] for one in airflow._tasks(HOURLY, run_id) if one["task_id"] == task_id)


def run_of(airflow: Orchestrator, cut: str) -> str:
    """The hour that was run for this cut."""
    [run] = [run for run in airflow.runs(HOURLY) if (run["conf"] or {}).get("cut") == cut]
    return str(run["dag_run_id"])


def finished(own: Settings, dag: str, count: int, seconds: float = 900) -> list[dict[str, Any]]:
    """The runs of a DAG, once so many have ended."""
    airflow = Orchestrator(own)

    def ended() -> bool:
        return sum(run["state"] in ("success", "failed") for run in airflow.runs(dag)) >= count

    eventually(ended, seconds)
    return airflow.runs(dag)


def rows(reader: SparkSession) -> dict[str, Counter[str]]:
    """All rows of the tables, as text."""
    return {table.name: Counter(map(str, iceberg.read(reader, table).collect())) for table in COMPARED}


def visitors(reader: SparkSession, table: iceberg.Table) -> list[str | None]:
    return [row[0] for row in iceberg.read(reader, table).select("visitor_id").distinct().collect()]


def resize(airflow: Orchestrator, pool: str, slots: int) -> None:
    body = {"pool": pool, "slots": slots, "include_deferred": False}
    answer = airflow._request("PATCH", f"pools/{pool}", body)
    assert answer.ok, answer.text


def test_hours_that_were_missed_are_run_once_each_though_scheduler_and_database_fail_in_their_midst(
    own: Settings, postgres: Postgres
) -> None:
    airflow = Orchestrator(own)
    eventually(lambda: bool(running(own, "curate_events")), 300)
    scheduler = psutil.Process(Cluster(own).supervisor.states()["airflow-scheduler"]["pid"])
    children = scheduler.children(recursive=True)
    eventually(partial(stopped_in_transaction, scheduler, own.airflow.database), 60)
    kill([scheduler])  # its children keep the connection, and with it the transaction's locks
    finished(own, HOURLY, 1)
    eventually(lambda: bool(running(own, "curate_events")), 300)
    postgres.stop()
    time.sleep(20)
    postgres.start()
    runs = finished(own, HOURLY, 2)
    assert not [process for process in children if process.is_running()]
    assert [(run["run_type"], run["state"]) for run in runs] == [("scheduled", "success")] * 2
    ends = [datetime.fromisoformat(run["data_interval_end"]) for run in runs]
    assert ends[1] - ends[0] == timedelta(hours=1)
    fs, layout = Hdfs(own), Layout(own.hdfs.root, own.kafka.topic)
    taken = list(cuts.all_cuts(fs, layout))
    assert [cut.name for cut in taken] == [
        end.strftime("%Y-%m-%dT%H-%M" if end.minute else "%Y-%m-%dT%H") for end in ends
    ]
    assert [datetime.fromisoformat(cut.taken_at) for cut in taken] == ends
    assert all(ledger.load(fs, layout, cut).published_balanced for cut in taken)
    assert airflow.runs(BACKFILL) == []


# That what it leaves is what undisturbed runs leave is seen below, where the same batch is made anew.
def test_a_task_whose_processes_are_killed_is_done_again(own: Settings, reader: SparkSession) -> None:
    airflow, supervisor = Orchestrator(own), Cluster(own).supervisor
    supervisor.stop("sink")
    sent = clickstream(own, "simulate", "--visitors", "20", "--seed", "3")
    cut = clickstream(own, "cut", "--name", "shoppers")
    assert cut["offsets"] == sent["accepted"] > 100
    run_id = airflow.trigger(HOURLY, {"cut": "shoppers"})
    eventually(lambda: state(airflow, HOURLY, run_id, "landed") == "deferred", 120)
    assert "batch shoppers has not landed: partition -> missing offsets" in airflow.log(HOURLY, run_id, "landed", 1)
    supervisor.start("sink")
    drivers = at_work(own, "build_sessions", "shoppers")
    kill([*drivers, *workers(own)])
    ran = airflow.follow(HOURLY, run_id, lambda states: None)
    assert ran["state"] == "success", ran
    assert tries(airflow, run_id, "build_sessions") == 2
    assert sum(rows(reader)["events"].values()) == sent["accepted"]


def test_a_driver_that_outlives_its_worker_is_ended_before_the_retry_writes(
    own: Settings, reader: SparkSession
) -> None:
    airflow, before = Orchestrator(own), rows(reader)
    run_id = run_of(airflow, "shoppers")
    airflow.clear(HOURLY, run_id)
    drivers = at_work(own, "build_sessions", "shoppers")
    suspend(drivers)  # or they would end with their worker, or be done before anybody misses it
    first = tries(airflow, run_id, "build_sessions")
    kill(workers(own))
    assert living(drivers) == drivers
    ran = airflow.follow(HOURLY, run_id, lambda states: None)
    assert ran["state"] == "success", ran
    assert tries(airflow, run_id, "build_sessions") == first + 1
    assert "job_predecessor_ended" in airflow.log(HOURLY, run_id, "build_sessions", first + 1, 0)
    assert not living(drivers)
    assert rows(reader) == before


def test_overlapping_backfills_change_no_row(own: Settings, reader: SparkSession) -> None:
    airflow, before = Orchestrator(own), rows(reader)
    newest = cuts.newest(Hdfs(own), Layout(own.hdfs.root, own.kafka.topic))
    assert newest is not None and newest.name == "shoppers"
    since = datetime.fromisoformat(newest.taken_at) - timedelta(milliseconds=1)
    conf = {"from": since.isoformat(), "stages": ["build_sessions"]}
    runs = [airflow.trigger(BACKFILL, conf) for _ in range(2)]
    ran = [airflow.follow(BACKFILL, run_id, lambda states: None) for run_id in runs]
    assert [one["state"] for one in ran] == ["success"] * 2
    assert all(one["seconds"]["build_sessions"] > 0 and one["seconds"]["build_features"] == 0 for one in ran)
    assert rows(reader) == before


def test_a_kafka_and_an_hdfs_that_are_away_are_named_by_the_task_that_needs_them(own: Settings) -> None:
    supervisor, airflow = Cluster(own).supervisor, Orchestrator(own)
    supervisor.stop("kafka")
    run_id = airflow.trigger(HOURLY, {"cut": "later"})
    eventually(lambda: "no broker answers at" in airflow.log(HOURLY, run_id, "take_cut", 1), 120)
    supervisor.stop("namenode")
    supervisor.start("kafka")
    eventually(lambda: own.hdfs.address in airflow.log(HOURLY, run_id, "take_cut", 2), 120)
    supervisor.start("namenode")
    eventually(lambda: "batch 4: later, 0 offsets" in airflow.log(HOURLY, run_id, "take_cut", 3), 180)
    assert airflow.follow(HOURLY, run_id, lambda states: None)["state"] == "success"


def test_an_hour_that_is_not_the_newest_is_run_again_and_changes_no_row(own: Settings, reader: SparkSession) -> None:
    airflow, before = Orchestrator(own), rows(reader)
    run_id = run_of(airflow, "shoppers")
    airflow.clear(HOURLY, run_id)
    assert airflow.follow(HOURLY, run_id, lambda states: None)["state"] == "success"
    assert rows(reader) == before


def test_airflow_and_spark_call_what_was_written_by_the_same_names(own: Settings) -> None:
    written: dict[str, set[tuple[str, str]]] = {"airflow": set(), "spark": set()}
    parents = set()  # of applications, though they share a driver
    for line in Path(own.lineage.file).read_text().splitlines():
        event = json.loads(line)
        if event["eventType"] == "COMPLETE":
            by = "airflow" if "airflow" in event["producer"] else "spark"
            written[by] |= {(dataset["namespace"], dataset["name"]) for dataset in event["outputs"]}
            parents.add((event["job"]["name"], event["run"]["facets"].get("parent", {}).get("job", {}).get("name")))
    for job in ("curate_events", "build_sessions", "build_features"):
        assert (f"{job}_shoppers", f"{HOURLY}.{job}") in parents, parents
    for table in (schemas.EVENTS, schemas.SESSIONS, feature_schemas.ITEM_FEATURES):
        dataset = (own.hdfs.address, f"{own.hdfs.root}/warehouse/db/{table.name}")
        assert dataset in written["airflow"] and dataset in written["spark"], written


def test_metrics_of_airflow_come_by_otlp(own: Settings, heard: Heard) -> None:
    names = heard.metrics
    eventually(lambda: any("scheduler" in name for name in names) and any("dag" in name for name in names), 60)


def test_a_failure_that_no_retry_mends_is_told_at_once_and_then_that_of_its_run(own: Settings, heard: Heard) -> None:
    conf = {"from": "2026-01-02T00:00:00Z", "to": "2026-01-01T00:00:00Z", "stages": ["build_features"]}
    run_id = Orchestrator(own).trigger(BACKFILL, conf)
    eventually(lambda: sum(told["run_id"] == run_id for told in heard.failures) == 2, 120)
    told, of_run = [told for told in heard.failures if told["run_id"] == run_id]
    assert (of_run["task_id"], of_run["error"]) == (None, "task_failure; batches_to_build_features failed")
    assert (told["task_id"], told["try_number"]) == ("batches_to_build_features", 1)
    assert "parameter from, 2026-01-02" in told["error"]
    assert told["url"].endswith(f"/runs/{run_id}/tasks/batches_to_build_features")


def test_maintenance_forgets_who_asks_and_says_for_which_pool_it_waits(own: Settings, reader: SparkSession) -> None:
    airflow, pool = Orchestrator(own), "clickstream_maintain_tables"
    forgotten, *others = visitors(reader, feature_schemas.VISITOR_FEATURES)
    clickstream(own, "erasures", "request", "--anonymous-id", str(forgotten))
    resize(airflow, pool, 0)
    run_id = airflow.trigger(MAINTENANCE, {})
    eventually(lambda: pool in airflow.troubles(MAINTENANCE, run_id).get("maintain_tables", ""), 120)
    resize(airflow, pool, 1)
    ran = airflow.follow(MAINTENANCE, run_id, lambda states: None)
    assert ran["state"] == "success", ran
    assert set(visitors(reader, schemas.EVENTS)) == {*others, None}
    assert [request["done_at"] for request in clickstream(own, "erasures", "list")] == [None]
