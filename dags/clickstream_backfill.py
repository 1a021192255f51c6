"""Rebuilds the tables of past batches, stage by stage, beside the hourly runs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import Param, chain, dag, task
from airflow.sdk.exceptions import AirflowFailException
from stages import DEFAULTS, final, gates, notify, published, spark_jobs

STAGES = ("curate_events", "build_sessions", "build_features", "build_examples")
DOC = """
### Past batches anew

Rebuilds all batches whose cut was taken after `from` and not after `to`, in order, one at a time in each chosen stage.
Jobs are idempotent, and each has a pool of one slot over all DAGs: so this is safe beside the hourly runs and beside
another backfill, and changes no row unless the code or the settings have changed. Batches that have not landed are left
to their hourly run. Curation refuses batches whose raw files retention has deleted; leave that stage out for them. A
run ends after three days: split a long history.
"""


@dag(
    schedule=None,
    start_date=datetime(2015, 1, 1),
    catchup=False,
    max_active_runs=4,
    dagrun_timeout=timedelta(days=3),
    on_failure_callback=notify,
    default_args=DEFAULTS,
    tags=["clickstream", "backfill"],
    doc_md=DOC,
    params={
        "from": Param(
            "2015-01-01T00:00:00Z", type="string", format="date-time", description="Cuts that were taken after this"
        ),
        "to": Param("2100-01-01T00:00:00Z", type="string", format="date-time", description="… and not after this"),
        "stages": Param(
            list(STAGES),
            type="array",
            items={"type": "string", "enum": list(STAGES)},
            examples=list(STAGES),
            description="What is made anew",
        ),
    },
)
def clickstream_backfill() -> None:
    """A mapped task for each stage."""

    @task
    def batches(stage: str, params: dict[str, Any]) -> list[str]:
        """The batches of a stage; none if it was not chosen: then its tasks are skipped."""
        if stage not in params["stages"]:
            return []
        since, until = (_moment(params[name]) for name in ("from", "to"))
        if since >= until:
            raise AirflowFailException(f"parameter from, {since}, is not before parameter to, {until}")
        with final():
            return gates().between(since, until)

    made = []
    for stage in STAGES:
        chosen = batches.override(task_id=f"batches_to_{stage}")(stage)
        made.append(spark_jobs(stage, chosen, trigger_rule="none_failed"))
        if stage == "curate_events":
            made.append(published.override(trigger_rule="none_failed").expand(batch=chosen))
    chain(*made)


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


clickstream_backfill()
