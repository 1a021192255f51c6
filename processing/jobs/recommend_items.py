"""Makes the lists of a batch: the best items for each visitor, similar items for each item, the popular ones.

Visitors get what the model in force ranks first among the items they have not met, filled up with popular items; bots
get nothing. In force is what evaluate_recommender decided: this batch's challenger, or the champion's recipe fitted to
this batch's interactions. Where train_ranker has promoted a ranker, it orders three times as many candidates. Similar
items are those that the same sessions of people met. Writes
the batch's rows of recommendations, similar_items and popular_items. Length: processing.recommendations_per_visitor.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from pyspark.sql import functions as F

from processing.algorithms import popular
from processing.algorithms.interface import MAX_SEEN
from processing.recommend import model_lists
from processing.runtime import job
from processing.runtime.job import Job
from processing.tables import event_times
from processing.tables.feature_schemas import INTERACTIONS, ITEM_FEATURES, VISITOR_FEATURES
from processing.tables.model_schemas import POPULAR_ITEMS, RECOMMENDATIONS, SIMILAR_ITEMS
from processing.tables.schemas import EVENTS
from processing.training import lists, model_files

POPULAR = 100  # items on the list for everybody


def work(this: Job) -> dict[str, Any]:
    """Writes the three lists."""
    n = this.settings.processing.recommendations_per_visitor
    decided = model_files.in_force(this.fs, this.settings.hdfs.root, this.cut)
    events, as_of = event_times.lately(this.read(EVENTS), this.settings.processing.feature_days, this.batch)
    seen = this.read_batch(INTERACTIONS).persist()
    visitors = this.read_batch(VISITOR_FEATURES).filter(~F.col("is_bot")).select("visitor_id").persist()
    ranked = popular.most(this.read_batch(ITEM_FEATURES), max(POPULAR, n + MAX_SEEN)).persist()
    source = decided.recipe.algorithm if decided.recipe else "popular"
    model = model_lists.model_in_force(this, decided, seen)
    learned, ranker = model_lists.learned_lists(this, model, visitors, seen, events, as_of)
    this.overwrite(RECOMMENDATIONS, lists.for_visitors(visitors, learned, ranked, seen, n, source))
    this.overwrite(SIMILAR_ITEMS, lists.similar(events, this.gap, n))
    this.overwrite(POPULAR_ITEMS, ranked.filter(F.col("rank") < POPULAR))
    written = this.read_batch(RECOMMENDATIONS).count()
    return {"model_version": decided.version, "ranker": ranker, "recommendations": written}


def main(argv: Sequence[str] | None = None) -> int:
    return job.run("recommend_items", __doc__ or "", work, argv)


if __name__ == "__main__":
    sys.exit(main())
