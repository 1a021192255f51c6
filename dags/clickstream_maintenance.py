"""Once a day: fewer files, nothing past its retention, and the proof that nothing is missing."""

from __future__ import annotations

from datetime import datetime, timedelta

from airflow.sdk import CronTriggerTimetable, chain, dag, task
from airflow.sdk.exceptions import AirflowSkipException
from stages import DEFAULTS, command, gates, notify, schedule, spark_job, start

from infra.submit import pool

DOC = """
### What a platform needs to stay quick and trusted

1. **compacted**: small raw files of closed batches become larger ones, and raw files and quarantine past their
   retention go (`clickstream compact`), but none of a batch whose ledger does not balance.
2. **audited**: each offset of all history is on HDFS exactly once (`clickstream audit`); the first violation, with its
   files, is in the log, and is nothing that a retry would mend. It runs whatever compaction says.
3. **erase_people**: who asked to be forgotten (`clickstream erasures request`) is, in files, tables, models and
   exports; a request is done when the next run finds nothing of it any more. It has the pool of build_sessions, since
   it builds some anew.
4. **maintain_tables**: small files of the tables are joined, snapshots older than `processing.snapshot_days` expire,
   but for those that models were trained on, and files that no snapshot knows are deleted.
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
    """Compaction and retention of raw, audit, requests to be forgotten, upkeep of the tables."""

    @task
    def compacted() -> None:
        """`clickstream compact`: joins files, deletes what is past its retention."""
        command("compact")

    @task(trigger_rule="all_done")
    def audited() -> None:
        """`clickstream audit`: proves all history by names and headers."""
        command("audit")

    @task
    def newest_batch() -> str:
        """The newest batch that is curated; without any there are no tables yet."""
        from storage.errors import BatchError

        try:
            return gates().newest_curated()
        except BatchError as error:
            raise AirflowSkipException(str(error)) from error

    batch = newest_batch()
    erase = spark_job("erase_people", batch, pool=pool("build_sessions"))
    chain(compacted(), audited())
    chain(batch, [erase, spark_job("maintain_tables", batch)])


clickstream_maintenance()
