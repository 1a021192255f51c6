"""Makes training examples of a batch: impressions, whether they were clicked, and the features of their moment.

Writes the batch's rows of training_examples: one for each impression of a person whose window
(processing.label_minutes) has closed as of the newest event up to the batch, and that is in no other batch. Clicked
or not, bought or not within that window; features of item, visitor and both together from what happened before the
impression alone. Then a sample of the rows is computed anew, in plain Python, from the events before each: one that
differs knows its future, and nothing is published.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from processing import examples, features, iceberg, job, leaks, quality
from processing.iceberg import Table
from processing.job import Job
from processing.quality import Finding
from processing.tables import EVENTS, POSITION_RATES, TRAINING_EXAMPLES

_FIELDS = ("batch", "event_id", "visitor_id", "item_id", "event_type", "occurred_at", "device", "list_id", "position")
_MORE = ("propensity", "impression_id", "model_version", "flags")


def work(this: Job) -> dict[str, Any]:
    """Writes the batch's examples; none when there is no event."""
    recent, as_of = features.lately(this.read(EVENTS).select(*_FIELDS, *_MORE), this.settings.processing.feature_days)
    if as_of is None:
        this.overwrite(TRAINING_EXAMPLES, this.spark.createDataFrame([], iceberg.schema(TRAINING_EXAMPLES)))
        return {"examples": 0, "clicked": 0}
    label = timedelta(minutes=this.settings.processing.label_minutes)
    events = recent.persist()
    seen = features.occurrences(events, this.read_batch(POSITION_RATES)).persist()
    iceberg.create(this.spark, TRAINING_EXAMPLES)
    others = iceberg.read(this.spark, TRAINING_EXAMPLES).filter(F.col("batch") != this.batch)
    shown = examples.ripe(events, others.select("example_id"), as_of, label)
    this.overwrite(TRAINING_EXAMPLES, examples.build(shown, events, seen, as_of, label), partial(check, seen))
    written = this.read_batch(TRAINING_EXAMPLES)
    count, clicked = written.agg(F.count("*"), F.count_if("clicked")).collect()[0]
    return {"examples": count, "clicked": clicked}


def check(seen: DataFrame, written: DataFrame, table: Table) -> list[Finding]:
    """The table's rules, and that no example knows its future."""
    return quality.rows(written, table) + leaks.find(written, seen)


def main(argv: Sequence[str] | None = None) -> int:
    return job.run("build_examples", __doc__ or "", work, argv)


if __name__ == "__main__":
    sys.exit(main())
