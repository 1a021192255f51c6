"""Every hour, from the cut at its end to the tables and features of its batch; models learn in clickstream_train."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from airflow.sdk import chain, dag, task
from airflow.sdk.exceptions import AirflowSkipException
from stages import (
    CUT,
    DEFAULTS,
    FEATURES,
    Landed,
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

1. **take_cut** ends the batch where the partitions ended at the end of the data interval, whenever the run comes: after
   a pause every hour is run, once. A run by hand takes `cut`, or ends a batch now.
2. **landed** waits without a slot until every offset is in HDFS, quarantined or explained (`clickstream ledger`), and
   fails after `airflow.landing_minutes`: nothing goes on short.
3. **to_curate** finds earlier batches that nobody curated (`clickstream cut` by hand), since batches go in their order;
   **curate_events** deduplicates and validates; **published** asserts landed = curated + duplicates + invalid;
   **quality** asserts that no check found anything.
4. **build_sessions** corrects the sessions that the batch touches; **build_features** is as of the data's own time;
   **announced** wakes clickstream_train.

A task that is cleared, or a whole run, gives the same rows again. Where a batch was refused, mend it and clear its run
and the later ones ("future" in the dialog): they go in their order.
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
        """All tables of the batch are there for those who learn from them; of an older one nobody learns again."""
        if (newest := gates().newest_curated()) != batch:
            raise AirflowSkipException(f"{newest} is newer")
        outlet_events[FEATURES].extra = {"batch": batch}

    cut = take_cut("{{ params.cut or '' }}")
    batches = to_curate(cut)
    curated = spark_jobs("curate_events", batches)
    gate = published.expand(batch=batches)
    checked = quality.expand(batch=batches)
    made = [spark_jobs("build_sessions", batches), spark_job("build_features", cut)]
    chain(cut, Landed(task_id="landed", batch=cut), batches, curated, gate, checked, made, announced(cut))


clickstream_hourly()
