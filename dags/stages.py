"""What the DAGs are made of: Spark jobs and commands, the ledger's gates, and what is done after a failure.

Nothing heavy is imported before a task runs. A failure that a retry can mend is retried, after 15 seconds and then
twice as long each time; bad input, a closed gate, or a missing connection fails at once.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.apache.spark.operators.spark_submit import SparkSubmitOperator
from airflow.sdk import Asset, BaseHook, BaseOperator, CronDataIntervalTimetable, Param, task
from airflow.sdk.configuration import conf
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowNotFoundException

from infra.errors import GATE_CLOSED, MAY_PASS
from infra.submit import job_file, pool

if TYPE_CHECKING:
    from infra.settings import Settings
    from storage.gates import Gates

# What each job writes; a test holds that it is what processing/tables.py says.
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
FEATURES, EXPORT = Asset("clickstream.features"), Asset("clickstream.export")  # all of a batch; what the web app shows
CONNECTION = "clickstream_spark"
CUT = Param(
    default=None,
    type=["null", "string"],  # the UI's form takes an empty string for a missing one
    pattern=r"^[A-Za-z0-9._-]*$",
    title="Cut",
    description="Name of the cut that ends the batch, as `clickstream cut` prints it",
)
_NO_RETRY = {
    2: "a bad argument, setting, table or batch",
    GATE_CLOSED: "a gate is closed: a balance or a quality check",
}


def schedule() -> CronDataIntervalTimetable | None:
    """When cuts are taken, from [clickstream] in Airflow's configuration; None where that says nothing."""
    cron = conf.get("clickstream", "schedule", fallback="")
    return CronDataIntervalTimetable(cron, timezone="UTC") if cron and start() else None


def start() -> datetime | None:
    """Before which no interval is looked at: when the platform was first started here."""
    moment = conf.get("clickstream", "start", fallback="")
    return datetime.fromisoformat(moment) if moment else None


def open_settings() -> Settings:
    """The settings of the process that runs the task."""
    from infra.settings import Settings

    return Settings.from_env()


def gates() -> Gates:
    """The batches' gates, for the process that runs the task."""
    from storage.gates import Gates

    return Gates(open_settings())


def notify(context: Any) -> None:
    """Tells the webhook of the settings that a task has failed for good; then that its run has, without a `task_id`.

    The run tells of all its tasks: some can't themselves, those that were killed, or that never had a slot.
    """
    import requests

    settings = open_settings().airflow
    if not settings.notify_url:
        return
    dag_id, run_id, reason = context["dag"].dag_id, context["run_id"], context.get("reason")
    failed = None if reason else context["task_instance"]  # a run's reason comes with any of its tasks
    what = f"{dag_id}.{failed.task_id}" if failed else dag_id
    why = str(context.get("exception") or "its process was ended") if failed else _told_of_run(dag_id, run_id, reason)
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
    except requests.RequestException as error:  # the failure is told in the UI all the same
        print(f"airflow.notify_url was not told: {error!r}")


def _told_of_run(dag_id: str, run_id: str, reason: str) -> str:
    """Airflow's reason, and which of the run's tasks failed, or never had a slot."""
    from infra.errors import ClickstreamError
    from infra.orchestrator import Orchestrator

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


class SparkJob(SparkSubmitOperator):
    """A job of processing/jobs on a batch, in the pool that gives each table one writer over all DAGs.

    Exit codes after which only a person can help fail at once. The job carries the tag by which a retry finds on YARN
    what its predecessor left; here it finds it by pid and start time (`processing/claim.py`).
    """

    template_fields = (*SparkSubmitOperator.template_fields, "batch")

    def __init__(self, *, job: str, batch: str, **options: Any) -> None:
        # A retry submits anew, and its driver ends what is left of the one before.
        always = {"name": job, "application": job_file(job), "conn_id": CONNECTION, "durable": False}
        super().__init__(**{"pool": pool(job), "outlets": assets(job)} | always | options)
        self.job, self.batch = job, batch

    def execute(self, context: Any) -> None:
        from infra.submit import yarn_tag

        try:
            connection = BaseHook.get_connection(CONNECTION)  # or the hook would take any YARN that it finds
        except AirflowNotFoundException as error:
            raise AirflowFailException(f"{error}: it names Spark's master, and `clickstream up` sets it") from error
        self.conf = {**(self.conf or {}), "spark.yarn.tags": yarn_tag(open_settings(), self.job, self.batch)}
        self.application_args = ["--batch", self.batch]
        # A driver in a container is followed by its ResourceManager, which also tells its exit code, and ends it.
        self._yarn_track_via_rm_api = "yarn_resourcemanager_webapp_address" in connection.extra_dejson
        try:
            super().execute(context)
        except (AirflowException, RuntimeError) as error:
            code = re.search(r"(?:Error code is:|application exited with status) (\d+)", str(error))
            why = _NO_RETRY.get(int(code[1])) if code else None
            if why:
                raise AirflowFailException(f"{self.job} --batch {self.batch}: {why}; its log says which") from error
            raise
        for asset in self.outlets:
            context["outlet_events"][asset].extra = {"batch": self.batch}

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> Any:
        """The tables that it wrote, by the names that Spark's own events give them."""
        from airflow.providers.common.compat.openlineage.facet import Dataset
        from airflow.providers.openlineage.extractors import OperatorLineage

        hdfs = open_settings().hdfs
        tables = [f"{hdfs.root}/warehouse/db/{table}" for table in TABLES.get(self.job, ())]
        return OperatorLineage(outputs=[Dataset(namespace=hdfs.address, name=table) for table in tables])


def spark_job(job: str, batch: str, **options: Any) -> SparkJob:
    """The job as a task of its own name."""
    return SparkJob(task_id=job, job=job, batch=batch, **options)


def spark_jobs(job: str, batches: Any, **options: Any) -> Any:
    """The job as a task that is mapped over batches, one after the other."""
    one_by_one = {
        "pool": pool(job),
        "outlets": assets(job),
        "max_active_tis_per_dagrun": 1,
    }
    return SparkJob.partial(task_id=job, job=job, **one_by_one | options).expand(batch=batches)


@contextmanager
def final() -> Iterator[None]:
    """No retry mends what a gate says, a bad name, or what isn't there; a server that does not answer may."""
    from storage.errors import BatchError, GateClosed

    try:
        yield
    except (BatchError, GateClosed) as error:
        raise AirflowFailException(str(error)) from error


class Landed(BaseOperator):
    """Waits, without holding a slot, until each offset of the batch is in HDFS, quarantined, or explained.

    What is missing is in the log; after `airflow.landing_minutes` it fails and never goes on short.
    """

    template_fields = ("batch",)

    def __init__(self, *, batch: str, **options: Any) -> None:
        super().__init__(**options)
        self.batch = batch

    def execute(self, context: Any) -> None:
        from storage.landing_trigger import LandingTrigger

        with final():
            missing = gates().landing(self.batch).missing
        if not missing:
            return
        minutes = open_settings().airflow.landing_minutes
        self.log.info("batch %s has not landed: partition -> missing offsets %s", self.batch, missing)
        self.defer(trigger=LandingTrigger(self.batch, time.time() + 60 * minutes), method_name="landed")

    def landed(self, context: Any, event: dict[str, Any]) -> None:
        """What the trigger found."""
        if event["closed"]:
            minutes = open_settings().airflow.landing_minutes
            raise AirflowFailException(f"{self.batch} did not land within {minutes:g} minutes: {event['closed']}")


@task
def published(batch: str) -> None:
    """Asserts landed = curated + duplicates + invalid, each counted on its own."""
    with final():
        found = gates().check_published(batch).facts()
    print({name: found[name] for name in ("batch", "landed", "curated", "duplicates", "invalid", "quarantined")})


@task
def quality(batch: str) -> None:
    """Asserts that no check found anything wrong with what was curated; the log says what, and where the rows are."""
    with final():
        gates().check_quality(batch, ("events", "duplicates", "invalid"))


@task
def take_cut(cut: str, dag_run: Any = None, data_interval_end: Any = None) -> str:
    """The batch's name. A scheduled run ends it with its data interval, whenever it runs; any other when it starts,
    unless its parameter names a cut."""
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
    """This batch, and those before it that were never curated, were refused or have no sessions: they go in order."""
    with final():
        return gates().to_curate(batch)


@task(outlets=[EXPORT])
def verified() -> str:
    """The version that the running web app serves, which must be the one in force."""
    with final():
        return gates().wait_until_served()


def command(*arguments: str) -> None:
    """Runs a `clickstream` command; what it prints is in the task's log.

    It fails for good, unless a server did not answer.
    """
    import subprocess

    program = [sys.executable, "-m", "infra.cli", *arguments]
    ran = subprocess.run(program, capture_output=True, text=True, check=False)
    print(ran.stdout, ran.stderr, sep="\n")
    if ran.returncode:
        last = (ran.stderr.strip().splitlines() or ["it printed nothing"])[-1]
        error = AirflowException if ran.returncode == MAY_PASS else AirflowFailException
        raise error(f"clickstream {' '.join(arguments)} exited {ran.returncode}: {last}")
