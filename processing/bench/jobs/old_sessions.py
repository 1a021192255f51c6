"""For `clickstream bench jobs --old-sessions N`: build_sessions of a few events, beside none and beside N old sessions.

Argument: N. Prints {"events": …, "none": …, "old": …}: seconds of the job's work, without Spark's start. Old are those
of the 300 days before, each of a visitor of its own, of whom every third is known as a user.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from infra.settings import Settings
from processing.jobs import build_sessions
from processing.runtime.job import Job
from processing.tables import iceberg
from processing.tables.schemas import EVENTS, IDENTITIES, SESSIONS
from storage.batches.cuts import Cut
from storage.hdfs import Hdfs
from storage.layout import Layout

EVENTS_OF_A_BATCH, DAYS = 20, 300
_NOW = "TIMESTAMP '2026-05-17 12:00:00'"
_ROUNDS = 3


def measure(job_of: Callable[[int], Job], count: int) -> dict[str, Any]:
    """Medians of some batches before and after `count` old sessions are there; the first batch warms up."""
    numbers = iter(range(1, 2 + 2 * _ROUNDS))
    _seconds(job_of(next(numbers)))
    none = [_seconds(job_of(next(numbers))) for _ in range(_ROUNDS)]
    fill(job_of(0).spark, count)
    old = [_seconds(job_of(next(numbers))) for _ in range(_ROUNDS)]
    return {"events": EVENTS_OF_A_BATCH, "none": statistics.median(none), "old": statistics.median(old)}


def _seconds(this: Job) -> float:
    this.overwrite(EVENTS, _events(this.spark, this.batch))
    began = time.monotonic()
    build_sessions.work(this)
    return time.monotonic() - began


def _events(spark: SparkSession, batch: int) -> DataFrame:
    """Events of visitors who were never here; every second one is logged in."""
    known = {
        "event_id": f"concat('{batch}-', id)",
        "visitor_id": f"concat('v{batch}-', id)",
        "anonymous_id": f"concat('v{batch}-', id)",
        "user_id": f"IF(id % 2 = 0, concat('u{batch}-', id), NULL)",
        "event_type": "'page_view'",
        "write_key": "'bench'",
        "page": "named_struct('url', NULL, 'path', '/a', 'referrer', NULL, 'title', NULL)",
    } | dict.fromkeys(("occurred_at", "received_at", "appended_at"), f"{_NOW} + make_interval(0, 0, 0, {batch}, 0, id)")
    known |= dict.fromkeys(("partition", "offset"), "id")
    columns = [
        F.expr(known.get(name, "NULL")).cast(type_).alias(name)
        for name, type_ in EVENTS.columns.items()
        if name != "batch"
    ]
    return spark.range(EVENTS_OF_A_BATCH).select(*columns)


def fill(spark: SparkSession, count: int) -> None:
    """Adds so many old sessions, and their visitors' links."""
    started = f"{_NOW} - make_interval(0, 0, 0, id % {DAYS} + 1, 0, 0, id % 80000)"
    known = {
        "session_id": "sha2(concat('session', id), 256)",
        "identity_id": "sha2(concat('identity', id), 256)",
        "visitor_id": "concat('old-', id)",
        "person_id": "concat('old-', id)",
        "user_id": "concat('user-', id)",
        "is_bot": "false",
        "started_at": started,
        "since": started,
        "until": started,
        "ended_at": f"{started} + make_interval(0, 0, 0, 0, 0, 10)",
        "duration_seconds": "600",
        "events": "5",
        "page_views": "3",
        "items": "2",
        "entry_page": "'/a'",
        "exit_page": "'/b'",
        "campaign": "map('source', 'mail')",
        "bounced": "false",
        "converted": "false",
        "batches": "array(0L)",
    }
    for table, ids in ((SESSIONS, spark.range(count)), (IDENTITIES, spark.range(0, count, 3))):
        iceberg.create(spark, table)
        columns = [F.expr(known.get(name, "NULL")).cast(of).alias(name) for name, of in table.columns.items()]
        ids.select(*columns).writeTo(table.full_name).append()


def main() -> None:
    settings, count = Settings.from_env(), int(sys.argv[1])
    spark = SparkSession.builder.appName("bench old sessions").getOrCreate()
    spark.sparkContext.setCheckpointDir(f"{settings.hdfs.address}{settings.hdfs.root}/checkpoints/bench")
    fs, layout = Hdfs(settings), Layout(settings.hdfs.root, settings.kafka.topic)

    def job_of(number: int) -> Job:
        cut = Cut(str(number), number, layout.topic, "2026-05-17T12:00:00+00:00", {}, {})
        return Job(settings, spark, fs, layout, cut)

    print(json.dumps(measure(job_of, count)))
    spark.stop()


if __name__ == "__main__":
    main()
