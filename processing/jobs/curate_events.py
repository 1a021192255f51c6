"""Curates the landed records of a batch: validates, deduplicates, and proves that none is lost.

Reads the batch's files from HDFS. Writes its rows of the tables events (valid, first of their event_id), duplicates
(with their winner, and whether it says the same) and invalid (with the reason), then counts each in what it wrote,
records the counts in the ledger and fails unless landed = curated + duplicates + invalid for every partition. Batches
are curated in their order: one whose predecessor is not curated is refused. Look-back: processing.dedup_days, and for
replayed events all events of their time.

Late events, those a session gap older than the newest event of earlier batches, are counted by how late they are;
`conflicting` are duplicates that say something else than their winner. An id that names nobody, such as "undefined" or
zeros, is taken for missing, and its event flagged and counted as of `placeholder_ids`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from typing import Any

from pyspark.sql import functions as F

from processing.events import curate, curation, raw
from processing.runtime import job
from processing.runtime.job import Job
from processing.tables import event_times, iceberg
from processing.tables.schemas import DUPLICATES, EVENTS, INVALID
from storage.batches import cuts


def work(this: Job) -> dict[str, Any]:
    """Curates, then counts what was written."""
    for table in curation.TABLES:
        iceberg.create(this.spark, table)
    files = cuts.files(this.fs, this.layout, this.cut)
    rows = raw.read(this.spark, [this.url(file.path) for file in files], this.cut.starts, this.cut.ends)
    before = iceberg.read(this.spark, EVENTS).filter(F.col("batch") < this.batch)
    # Not persisted: writing events makes Spark forget whatever was read of them, and a copy of all rows is large.
    classified = curate.classify(rows, curate.earlier(before, curation.look_back(this), rows), this.batch)
    newest = event_times.newest(before, this.batch - 1) if this.batch > 1 else None
    this.overwrite(EVENTS, curate.curated(classified, newest, this.gap), partial(curation.check_arrivals, this, before))
    this.overwrite(DUPLICATES, curate.duplicates(classified))
    this.overwrite(INVALID, curate.invalid(classified))
    conflicting = this.read_batch(DUPLICATES).filter(~F.col("same_payload")).count()
    return curation.record_counts(this, curation.count(this)) | {"conflicting": conflicting} | curation.told(this)


def main(argv: Sequence[str] | None = None) -> int:
    return job.run("curate_events", __doc__ or "", work, argv, curation.ready)


if __name__ == "__main__":
    sys.exit(main())
