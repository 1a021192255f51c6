"""Brings the table sessions up to date with a batch: a session ends where a visitor pauses longer than the gap.

All sessions of all visitors whom the batch touched are built anew from all their curated events and replace the old
ones in one commit: a late event may join two sessions, and a rerun changes nothing. Bots have sessions too, marked
is_bot; events of anonymous mode, which have no visitor, have none. Gap: processing.session_gap_minutes.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from pyspark.sql import functions as F

from processing import job, sessions, tables
from processing.job import Job
from processing.tables import EVENTS, SESSIONS


def work(this: Job) -> dict[str, Any]:
    """Builds and merges the sessions of the visitors in this batch."""
    tables.create(this.spark, SESSIONS)
    events = tables.read(this.spark, EVENTS)
    visitors = sessions.touched(events, this.batch).persist()
    built = sessions.build(events.join(visitors, on="visitor_id", how="left_semi"), this.gap).persist()
    current = tables.read(this.spark, SESSIONS)
    tables.replace_matching(this.spark, SESSIONS, sessions.replacement(built, current, visitors), key="session_id")
    of_batch = built.filter(F.array_contains("batches", this.batch))
    people, bots = of_batch.agg(F.count_if(~F.col("is_bot")), F.count_if("is_bot")).collect()[0]
    return {"sessions": people + bots, "bot_sessions": bots}


def main(argv: Sequence[str] | None = None) -> int:
    return job.run("build_sessions", __doc__ or "", work, argv)


if __name__ == "__main__":
    sys.exit(main())
