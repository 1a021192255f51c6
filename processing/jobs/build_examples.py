"""Makes training examples of a batch: impressions, whether they were clicked, and the features of their moment.

Writes the batch's rows of training_examples: one for each impression of a person whose window
(processing.label_minutes) has closed as of the newest event up to the batch, that is not older than
processing.feature_days then, and that is in no other batch. Clicked or not, bought or not within that window; features
of item, visitor and both together from what happened before the impression alone, in windows that are whole. Then a
sample of the rows is computed anew, labels too, each from the events before it or in its window alone: one that differs
knows its future, and nothing is published.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from processing.features import aggregates, examples, leakage
from processing.runtime import job
from processing.runtime.job import Job
from processing.tables import iceberg, quality
from processing.tables.feature_schemas import POSITION_RATES, TRAINING_EXAMPLES
from processing.tables.iceberg import Table
from processing.tables.quality import Finding
from processing.tables.schemas import EVENTS

_FIELDS = ("batch", "event_id", "visitor_id", "item_id", "event_type", "occurred_at", "device", "list_id", "position")
_MORE = ("propensity", "impression_id", "model_version", "received_at", "flags")


def work(this: Job) -> dict[str, Any]:
    """Writes the batch's examples; none when there is no impression."""
    recent, known, as_of = examples.lately(
        this.read(EVENTS).select(*_FIELDS, *_MORE), this.settings.processing.feature_days, this.batch
    )
    label = timedelta(minutes=this.settings.processing.label_minutes)
    iceberg.create(this.spark, TRAINING_EXAMPLES)
    others = iceberg.read(this.spark, TRAINING_EXAMPLES).filter(F.col("batch") != this.batch)
    shown = None if as_of is None else this.settle(examples.ripe(recent, others.select("example_id"), as_of, label))
    if as_of is None or shown is None or shown.isEmpty():
        this.overwrite(TRAINING_EXAMPLES, this.spark.createDataFrame([], iceberg.schema(TRAINING_EXAMPLES)))
        return {"examples": 0, "clicked": 0}
    events = known.persist()
    seen = aggregates.occurrences(events, this.read_batch(POSITION_RATES), "event_id").persist()
    built, check = examples.build(shown, events, seen, as_of, label), partial(rules, seen, recent, label)
    this.overwrite(TRAINING_EXAMPLES, built, check)
    written = this.read_batch(TRAINING_EXAMPLES)
    count, clicked = written.agg(F.count("*"), F.count_if("clicked")).collect()[0]
    return {"examples": count, "clicked": clicked}


def rules(seen: DataFrame, recent: DataFrame, label: timedelta, written: DataFrame, table: Table) -> list[Finding]:
    """The table's rules, and that no example knows its future."""
    return quality.rows(written, table) + leakage.find(written, seen, recent, label)


def main(argv: Sequence[str] | None = None) -> int:
    return job.run("build_examples", __doc__ or "", work, argv)


if __name__ == "__main__":
    sys.exit(main())
