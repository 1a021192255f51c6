"""Makes the lists of a batch: the best items for each visitor, similar items for each item, the popular ones.

Visitors get what the final model ranks first among the items they have not met, filled up with popular items; bots get
nothing. Similar items are those that the same sessions of people met. Writes the batch's rows of recommendations,
similar_items and popular_items. Length: processing.recommendations_per_visitor.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from pyspark.sql import functions as F

from processing import job, recommend
from processing.job import Job
from processing.tables import (
    EVENTS,
    INTERACTIONS,
    ITEM_FEATURES,
    POPULAR_ITEMS,
    RECOMMENDATIONS,
    SIMILAR_ITEMS,
    VISITOR_FEATURES,
)
from processing.training import als, store

POPULAR = 100


def work(this: Job) -> dict[str, Any]:
    """Writes the three lists."""
    n = this.settings.processing.recommendations_per_visitor
    training = store.read(this.fs, this.settings.hdfs.root, this.cut)
    seen = this.read_batch(INTERACTIONS).select("visitor_id", "item_id").persist()
    visitors = this.read_batch(VISITOR_FEATURES).filter(~F.col("is_bot")).select("visitor_id").persist()
    ranked = recommend.popular(this.read_batch(ITEM_FEATURES), max(POPULAR, n + als.MAX_SEEN)).persist()
    learned = None
    if training.final:
        factors = store.load(this.spark, this.url(f"{store.folder(this.settings.hdfs.root, this.cut)}/final"))
        learned = als.top(factors, visitors, seen, n).persist()
    this.overwrite(RECOMMENDATIONS, recommend.for_visitors(visitors, learned, ranked, seen, n))
    this.overwrite(SIMILAR_ITEMS, recommend.similar(this.read(EVENTS), this.gap, n))
    this.overwrite(POPULAR_ITEMS, ranked.filter(F.col("rank") < POPULAR))
    return {"recommendations": this.read_batch(RECOMMENDATIONS).count()}


def main(argv: Sequence[str] | None = None) -> int:
    return job.run("recommend_items", __doc__ or "", work, argv)


if __name__ == "__main__":
    sys.exit(main())
