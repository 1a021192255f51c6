"""The tasks of the DAGs: Spark jobs, commands, the ledger's gates, and notification of failures.

Heavy modules are imported when a task runs. A failure that may pass is retried, after 15 seconds and then twice as long
each time; bad input, a closed gate, or a missing connection fails at once.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.apache.spark.hooks.spark_submit import SparkSubmitHook
from airflow.providers.apache.spark.operators.spark_submit import SparkSubmitOperator
from airflow.sdk import Asset, BaseHook, BaseOperator, CronDataIntervalTimetable, Param, task
from airflow.sdk.configuration import conf
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowNotFoundException

from infra.errors import GATE_CLOSED, MAY_PASS
from infra.spark.submit import job_file, pool

if TYPE_CHECKING:
    from infra.settings import Settings
    from infra.spark.drivers import Client, Drivers
    from storage.batches.gates import Gates

# What each job writes; a test holds that it is what processing/tables/schemas.py says.
TABLES = {
    "curate_events": ("events", "duplicates", "invalid"),
    "build_sessions": ("sessions", "identities"),
    "build_features": (
        *("interactions", "item_features", "visitor_features", "covisits"),
        *("position_rates", "weekly_profile"),
    ),
    "build_examples": ("training_examples",),
    "evaluate_recommender": ("evaluations",),
    "recommend_items": ("recommendations", "similar_items", "popular_items"),
}
FEATURES, EXPORT = (
    Asset("clickstream.features"),
    Asset("clickstream.export"),
)  # a batch's features; what the web app shows
CONNECTION = "clickstream_spark"
CUT = Param(
    default=None,
    type=["null", "string"],  # the UI's form takes an empty string for a missing one
    pattern=r"^[A-Za-z0-9._-]*$",
    title="Cut",
    description="Name of the cut that ends the batch, as `clickstream cut` prints it",
)
_LANDS_SECONDS = 4.0  # in which the sink lands what waits at a cut; to hand it to the triggerer takes about as long
_NO_RETRY = {
    2: "a bad argument, setting, table or batch",
    GATE_CLOSED: "a gate is closed: a balance or a quality check",
}


def schedule() -> CronDataIntervalTimetable | None:
    """The schedule of cuts, from [clickstream] in Airflow's configuration; None if it has none."""
    cron = conf.get("clickstream", "schedule", fallback="")
    return CronDataIntervalTimetable(cron, timezone="UTC") if cron and start() else None


def start() -> datetime | None:
    """The start date of the DAGs: when the platform was first started here."""
    moment = conf.get("clickstream", "start", fallback="")
    return datetime.fromisoformat(moment) if moment else None


def open_settings() -> Settings:
    """The settings of the process that runs the task."""
    from infra.settings import Settings

    return Settings.from_env()


def gates() -> Gates:
    """The batches' gates, with the settings of the process that runs the task."""
    from storage.batches.gates import Gates

    return Gates(open_settings())


def notify(context: Any) -> None:
    """Posts to the webhook of the settings that a task has failed for good; then that its run has, without a `task_id`.

    The run's message lists its failed tasks: killed ones, and those that never had a slot, can't post themselves.
    """
    import requests

    settings = open_settings().airflow
    if not settings.notify_url:
        return
    dag_id, run_id, reason = context["dag"].dag_id, context["run_id"], context.get("reason")
    failed = None if reason else context["task_instance"]  # only a run's failure has a reason
    what = f"{dag_id}.{failed.task_id}" if failed else dag_id
    why = str(context.get("exception") or "its process was ended") if failed else _run_failure(dag_id, run_id, reason)
    url = f"{settings.address}/dags/{dag_id}/runs/{run_id}" + (f"/tasks/{failed.task_id}" if failed else "")
    body = {
        "text": f"{what} failed in run {run_id}: {why} {url}",
        "dag_id": dag_id,
        "run_id": run_id,
        "task_id": failed.task_id if failed else None,
        "try_number": failed.try_number if failed else None,
        "error": why,
        "url": url,
    }
    try:
        requests.post(settings.notify_url, json=body, timeout=10).raise_for_status()
    except requests.RequestException as error:  # the UI shows the failure all the same
        print(f"airflow.notify_url was not told: {error!r}")


def _run_failure(dag_id: str, run_id: str, reason: str) -> str:
    """Airflow's reason, and the run's tasks that failed or never had a slot."""
    from infra.airflow.client import Orchestrator
    from infra.errors import ClickstreamError

    try:
        troubles = Orchestrator(open_settings()).troubles(dag_id, run_id)
    except ClickstreamError as error:
        return f"{reason}; {error}"
    return "; ".join([reason, *(f"{task} {what}" for task, what in troubles.items())])


DEFAULTS: dict[str, Any] = {
    "owner": "clickstream",
    "retries": 3,
    "retry_delay": timedelta(seconds=15),
    "retry_exponential_backoff": 2,
    "max_retry_delay": timedelta(minutes=10),
    "on_failure_callback": notify,
}


def assets(job: str) -> list[Asset]:
    """The tables that a job writes, as Airflow's UI shows them."""
    return [Asset(f"clickstream.db.{table}") for table in TABLES.get(job, ())]


def shared_drivers(hook: SparkSubmitHook) -> Drivers | None:
    """Drivers that jobs share, started as `hook` would submit a job; None where Spark's master is not this machine."""
    from infra import project
    from infra.spark.drivers import Drivers

    if not str(hook._connection["master"]).startswith("local"):
        return None
    hook._name = "driver"
    found = Drivers(open_settings(), hook._build_spark_submit_command(str(project.DRIVER)))
    return found if found.usable else None


def prepare_driver() -> None:
    """Starts a driver for the jobs that will follow, so that it is warm by then."""
    with suppress(AirflowNotFoundException):
        BaseHook.get_connection(CONNECTION)
        if drivers := shared_drivers(SparkSubmitHook(conn_id=CONNECTION)):
            drivers.prepare()


class SparkJob(SparkSubmitOperator):
    """A job of processing/jobs on a batch, in a pool that gives each table one writer over all DAGs.

    With Spark on this machine it runs in a driver that the jobs of its DAG run share (`infra/spark/drivers.py`), else
    by a spark-submit of its own. Exit codes that need a person fail at once. A retry finds its predecessor by the job's
    tag on YARN, else by pid and start time (`processing/runtime/local_lock.py`).
    """

    template_fields = (*SparkSubmitOperator.template_fields, "batch")

    def __init__(self, *, job: str, batch: str, **options: Any) -> None:
        # A retry submits again, and its driver ends its predecessor.
        always = {"name": job, "application": job_file(job), "conn_id": CONNECTION, "durable": False}
        super().__init__(**{"pool": pool(job), "outlets": assets(job)} | always | options)
        self.job, self.batch = job, batch
        self._client: Client | None = None  # of a shared driver

    def execute(self, context: Any) -> None:
        from infra.spark.submit import yarn_tag

        try:
            connection = BaseHook.get_connection(
                CONNECTION
            )  # without a connection the hook would take any YARN that it finds
        except AirflowNotFoundException as error:
            raise AirflowFailException(f"{error}: it names Spark's master, and `clickstream up` sets it") from error
        drivers = shared_drivers(self._get_hook())
        if drivers:
            code = self._run_in(drivers, context)
        else:
            self.conf = {**(self.conf or {}), "spark.yarn.tags": yarn_tag(open_settings(), self.job, self.batch)}
            self.application_args = ["--batch", self.batch]
            # With this address the operator follows a driver in a container by YARN's ResourceManager, and can end it.
            self._yarn_track_via_rm_api = "yarn_resourcemanager_webapp_address" in connection.extra_dejson
            code = self._submit(context)
        if why := _NO_RETRY.get(code):
            raise AirflowFailException(f"{self.job} --batch {self.batch}: {why}; its log says which")
        if code:
            raise AirflowException(f"{self.job} --batch {self.batch} exited {code}")
        for asset in self.outlets:
            context["outlet_events"][asset].extra = {"batch": self.batch}

    def _submit(self, context: Any) -> int:
        """By a spark-submit of its own; returns the exit code of a job that only a person can help."""
        try:
            super().execute(context)
        except (AirflowException, RuntimeError) as error:
            code = re.search(r"(?:Error code is:|application exited with status) (\d+)", str(error))
            if code and int(code[1]) in _NO_RETRY:
                return int(code[1])
            raise
        return 0

    def _run_in(self, drivers: Drivers, context: Any) -> int:
        """In a shared driver; returns the job's exit code."""
        from airflow.providers.common.compat.openlineage.utils.spark import (
            inject_parent_job_information_into_spark_properties,
            inject_transport_information_into_spark_properties,
        )

        from infra.spark.drivers import Client

        conf: dict[str, str] = {}
        if self._openlineage_inject_parent_job_info:
            conf = inject_parent_job_information_into_spark_properties(conf, context)
        if self._openlineage_inject_transport_info:
            conf = inject_transport_information_into_spark_properties(conf, context)
        self._client = Client(drivers, self.log.info)
        return self._client.run(f"{context['dag'].dag_id} {context['run_id']}", self.job, self.batch, conf)

    def on_kill(self) -> None:
        """The shared driver ends, too: in mid-job it is of no use to others."""
        self._client.stop() if self._client else super().on_kill()

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> Any:
        """The tables that the job wrote, with the names of Spark's own OpenLineage events."""
        from airflow.providers.common.compat.openlineage.facet import Dataset
        from airflow.providers.openlineage.extractors import OperatorLineage

        hdfs = open_settings().hdfs
        tables = [f"{hdfs.root}/warehouse/db/{table}" for table in TABLES.get(self.job, ())]
        return OperatorLineage(outputs=[Dataset(namespace=hdfs.address, name=table) for table in tables])


def spark_job(job: str, batch: str, **options: Any) -> SparkJob:
    """The job as a task of the same name."""
    return SparkJob(task_id=job, job=job, batch=batch, **options)


def spark_jobs(job: str, batches: Any, **options: Any) -> Any:
    """The job as a task that is mapped over batches, one at a time."""
    one_by_one = {
        "pool": pool(job),
        "outlets": assets(job),
        "max_active_tis_per_dagrun": 1,
    }
    return SparkJob.partial(task_id=job, job=job, **one_by_one | options).expand(batch=batches)


@contextmanager
def final() -> Iterator[None]:
    """Fails at once on a closed gate or a wrong batch, which no retry changes; other errors may pass."""
    from storage.errors import BatchError, GateClosed

    try:
        yield
    except (BatchError, GateClosed) as error:
        raise AirflowFailException(str(error)) from error


class LandingGate(BaseOperator):
    """Waits until each offset of the batch is on HDFS, quarantined or explained; after some seconds without a slot.

    Logs what is missing; fails after `airflow.landing_minutes`, so no incomplete batch goes on.
    """

    template_fields = ("batch",)

    def __init__(self, *, batch: str, **options: Any) -> None:
        super().__init__(**options)
        self.batch = batch

    def execute(self, context: Any) -> None:
        from storage.batches.airflow_trigger import LandingTrigger

        soon = time.monotonic() + _LANDS_SECONDS
        while True:
            with final():
                missing = gates().current_ledger(self.batch).missing
            if not missing:
                return
            if time.monotonic() > soon:
                break
            time.sleep(0.5)
        minutes = open_settings().airflow.landing_minutes
        self.log.info("batch %s has not landed: partition -> missing offsets %s", self.batch, missing)
        self.defer(trigger=LandingTrigger(self.batch, time.time() + 60 * minutes), method_name="landed")

    def landed(self, context: Any, event: dict[str, Any]) -> None:
        """Called with the trigger's event."""
        if event["closed"]:
            minutes = open_settings().airflow.landing_minutes
            raise AirflowFailException(f"{self.batch} did not land within {minutes:g} minutes: {event['closed']}")


@task
def published(batch: str) -> None:
    """Asserts the publish gate: landed = curated + duplicates + invalid, each counted separately."""
    with final():
        found = gates().check_published(batch).facts()
    print({name: found[name] for name in ("batch", "landed", "curated", "duplicates", "invalid", "quarantined")})


@task
def quality(batch: str) -> None:
    """Asserts that no quality check found anything in the curated batch; the error names the findings and the rows."""
    with final():
        gates().check_quality(batch, ("events", "duplicates", "invalid"))


@task
def take_cut(cut: str, dag_run: Any = None, data_interval_end: Any = None) -> str:
    """Takes the cut, and returns the batch's name.

    A scheduled run cuts at the end of its data interval, whenever it runs; any other run now, or uses the cut that its
    parameter names.
    """
    prepare_driver()
    moment = data_interval_end if dag_run.run_type in ("scheduled", "backfill") and not cut else None
    if moment is not None:
        moment = datetime.fromtimestamp(moment.timestamp(), UTC)
        cut = moment.strftime("%Y-%m-%dT%H" if not moment.minute else "%Y-%m-%dT%H-%M")
    with final():
        taken = gates().take(cut or dag_run.run_after.strftime("%Y-%m-%dT%H-%M-%SZ"), moment)
    print(f"batch {taken.number}: {taken.name}, {taken.offsets:,} offsets, taken at {taken.taken_at}")
    return taken.name


@task
def to_curate(batch: str) -> list[str]:
    """This batch, after earlier ones that are not curated or have no sessions, in order."""
    with final():
        return gates().to_curate(batch)


@task(outlets=[EXPORT])
def verified() -> str:
    """The version that the web app serves, which must be the current one."""
    with final():
        return gates().wait_until_served()


def command(*arguments: str) -> None:
    """Runs a `clickstream` command and prints its output to the task's log.

    A failure is final, unless a server did not answer.
    """
    import subprocess

    program = [sys.executable, "-m", "infra.cli", *arguments]
    ran = subprocess.run(program, capture_output=True, text=True, check=False)
    print(ran.stdout, ran.stderr, sep="\n")
    if ran.returncode:
        last = (ran.stderr.strip().splitlines() or ["it printed nothing"])[-1]
        error = AirflowException if ran.returncode == MAY_PASS else AirflowFailException
        raise error(f"clickstream {' '.join(arguments)} exited {ran.returncode}: {last}")
