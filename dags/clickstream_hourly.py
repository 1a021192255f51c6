"""Hourly: takes the cut at the hour's end, and builds the tables and features of its batch."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from airflow.sdk import chain, dag, task
from airflow.sdk.exceptions import AirflowSkipException
from stages import (
    CUT,
    DEFAULTS,
    FEATURES,
    LandingGate,
    gates,
    notify,
    published,
    quality,
    schedule,
    spark_job,
    spark_jobs,
    start,
    take_cut,
    to_curate,
)

DOC = """
### The last hour's clicks

1. **take_cut** ends the batch at the partitions' end offsets at the end of the data interval, even if the run is late:
   after a pause every hour is run once. A manual run uses the cut `cut`, or ends a batch now.
2. **landed** waits without a slot until every offset is on HDFS, quarantined or explained (`clickstream ledger`). It
   fails after `airflow.landing_minutes`, so no incomplete batch goes on.
3. **to_curate** finds earlier batches that were not curated (after a manual `clickstream cut`), since batches are
   curated in order; **curate_events** deduplicates and validates; **published** asserts landed = curated + duplicates +
   invalid; **quality** asserts that no check found anything.
4. **build_sessions** corrects the sessions that the batch changes; **build_features** is as of the data's own time;
   **announced** triggers clickstream_train.

A task or a run that is cleared gives the same rows again. If a batch was refused, correct it and clear its run and the
later ones ("future" in the dialog): batches go in order.
"""


@dag(
    schedule=schedule(),
    start_date=start() or datetime(2015, 1, 1),
    catchup=True,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=6),
    on_failure_callback=notify,
    default_args=DEFAULTS | {"priority_weight": 100},  # before training, where there is room for one of them
    tags=["clickstream", "hourly"],
    doc_md=DOC,
    params={"cut": CUT},
)
def clickstream_hourly() -> None:
    """Cut, landing gate, curation, publish gate, quality, sessions and features."""

    @task(outlets=[FEATURES])
    def announced(batch: str, *, outlet_events: Any) -> None:
        """Announces that the batch's features are complete; skipped if a newer batch is curated already."""
        if (newest := gates().newest_curated()) != batch:
            raise AirflowSkipException(f"{newest} is newer")
        outlet_events[FEATURES].extra = {"batch": batch}

    cut = take_cut("{{ params.cut or '' }}")
    batches = to_curate(cut)
    curated = spark_jobs("curate_events", batches)
    gate = published.expand(batch=batches)
    checked = quality.expand(batch=batches)
    made = [spark_jobs("build_sessions", batches), spark_job("build_features", cut)]
    chain(cut, LandingGate(task_id="landed", batch=cut), batches, curated, gate, checked, made, announced(cut))


clickstream_hourly()
