"""Once a day: compaction, retention, audit, erasure, and maintenance of the tables."""

from __future__ import annotations

from datetime import datetime, timedelta

from airflow.sdk import CronTriggerTimetable, chain, dag, task
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException
from stages import DEFAULTS, command, gates, notify, schedule, spark_job, start

from infra.spark.submit import pool

DOC = """
### What a platform needs to stay quick and trusted

1. **compacted** merges small raw files of closed batches, and deletes raw and quarantine files past their retention
   (`clickstream compact`), except those of batches whose ledger does not balance.
2. **audited** proves that each offset of all history is on HDFS exactly once (`clickstream audit`). The log shows the
   first violation with its files; a retry does not change it. It runs after compaction, also if that failed: then the
   run fails all the same.
3. **erase_people** erases the people of all requests (`clickstream erasures request`) from files, tables, models and
   exports; a request is closed when the next run finds nothing of it any more. It uses the pool of build_sessions,
   since it rebuilds some sessions.
4. **maintain_tables** deletes batches of features and lists after `processing.copy_days`, and models, their runs and
   exports after `processing.model_days`, except champions and what a rollback goes back to; merges small files of the
   tables, expires snapshots older than `processing.snapshot_days`, except those that champions were trained on, and
   deletes files that belong to no snapshot.
"""


@dag(
    schedule=CronTriggerTimetable("30 3 * * *", timezone="UTC") if schedule() else None,
    start_date=start() or datetime(2015, 1, 1),
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=12),
    max_active_tasks=1,  # each rewrites what another may be reading
    on_failure_callback=notify,
    default_args=DEFAULTS,
    tags=["clickstream", "upkeep"],
    doc_md=DOC,
)
def clickstream_maintenance() -> None:
    """Compaction and retention of raw, audit, erasure of people, maintenance of the tables."""

    @task
    def compacted() -> None:
        """`clickstream compact`: merges files, and deletes those past their retention."""
        command("compact")

    @task(trigger_rule="all_done")
    def audited() -> None:
        """`clickstream audit`: proves by names and headers that all history is complete."""
        command("audit")

    @task
    def newest_batch() -> str:
        """The newest curated batch; skipped if there is none, since then there are no tables yet."""
        from storage.errors import BatchError

        try:
            return gates().newest_curated()
        except BatchError as error:
            raise AirflowSkipException(str(error)) from error

    @task(trigger_rule="one_failed", retries=0, on_failure_callback=None)
    def failed() -> None:
        """Fails the run if compaction failed: a run is what its last tasks are, and the audit may succeed."""
        raise AirflowFailException("compacted failed")

    batch = newest_batch()
    erase = spark_job("erase_people", batch, pool=pool("build_sessions"))
    compaction = compacted()
    chain(compaction, [audited(), failed()])
    chain(batch, [erase, spark_job("maintain_tables", batch)])


clickstream_maintenance()
