"""Makes the lists of a batch: the best items for each visitor, similar items for each item, the popular ones.

Visitors get what the model in force ranks first among the items they have not met, filled up with popular items; bots
get nothing. In force is what evaluate_recommender decided: this batch's challenger, or the champion's recipe fitted to
this batch's interactions. Where train_click_models has a model of clicks in force, three times as many candidates are
put into the order of their chance to be clicked. Similar items are those that the same sessions of people met. Writes
the batch's rows of recommendations, similar_items and popular_items. Length: processing.recommendations_per_visitor.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ingest.events import to_millis
from processing import features, job, recommend, reranking
from processing.job import Job
from processing.tables import (
    COVISITS,
    EVENTS,
    INTERACTIONS,
    ITEM_FEATURES,
    POPULAR_ITEMS,
    POSITION_RATES,
    RECOMMENDATIONS,
    SIMILAR_ITEMS,
    VISITOR_FEATURES,
)
from processing.training import als, evaluation, outcomes, recommenders, store
from processing.training.classifiers import Classifier
from processing.training.recommenders import Model
from processing.training.store import InForce

POPULAR = 100


def work(this: Job) -> dict[str, Any]:
    """Writes the three lists."""
    n = this.settings.processing.recommendations_per_visitor
    decided = store.in_force(this.fs, this.settings.hdfs.root, this.cut)
    events, as_of = features.lately(this.read(EVENTS), this.settings.processing.feature_days)
    seen = this.read_batch(INTERACTIONS).persist()
    visitors = this.read_batch(VISITOR_FEATURES).filter(~F.col("is_bot")).select("visitor_id").persist()
    ranked = recommend.popular(this.read_batch(ITEM_FEATURES), max(POPULAR, n + als.MAX_SEEN)).persist()
    source = decided.recipe.algorithm if decided.recipe else "popular"
    model = model_in_force(this, decided, seen)
    learned, ranker = learned_lists(this, model, visitors, seen, events, as_of)
    this.overwrite(RECOMMENDATIONS, recommend.for_visitors(visitors, learned, ranked, seen, n, source))
    this.overwrite(SIMILAR_ITEMS, recommend.similar(events, this.gap, n))
    this.overwrite(POPULAR_ITEMS, ranked.filter(F.col("rank") < POPULAR))
    written = this.read_batch(RECOMMENDATIONS).count()
    return {"model_version": decided.version, "ranker": ranker, "recommendations": written}


def learned_lists(
    this: Job, model: Model | None, visitors: DataFrame, seen: DataFrame, events: DataFrame, as_of: datetime | None
) -> tuple[DataFrame | None, str | None]:
    """What the model recommends, and the version of the ranker that ordered it, if any."""
    if model is None:
        return None, None
    root, n = this.settings.hdfs.root, this.settings.processing.recommendations_per_visitor
    ranker = store.in_force(this.fs, root, this.cut, outcomes.CLICKED, "train_click_models")
    if ranker.recipe is None or as_of is None:
        return model.top(visitors, seen, n).persist(), None
    candidates = reranking.described(
        model.top(visitors, seen, reranking.DEPTH * n).persist(),
        this.read_batch(ITEM_FEATURES),
        this.read_batch(VISITOR_FEATURES),
        this.read_batch(COVISITS),
        features.occurrences(events, this.read_batch(POSITION_RATES)),
        to_millis(as_of) + 1,
    )
    clicks = Classifier.load(this.url(f"{store.folder(root, this.cut, outcomes.CLICKED)}/final"))
    return reranking.reorder(candidates, clicks, n).persist(), ranker.version


def model_in_force(this: Job, decided: InForce, seen: DataFrame) -> Model | None:
    """What training left, where its recipe is in force; else the champion's, fitted to the same interactions."""
    root = this.settings.hdfs.root
    training = store.read(this.fs, root, this.cut)
    if decided.recipe is None:
        return None
    if decided.recipe == training.recipe:
        url = this.url(f"{store.folder(root, this.cut)}/final")
        return recommenders.load(this.spark, training.recipe, url) if training.final else None
    events, as_of = evaluation.known(this.read(EVENTS), this.settings.processing.feature_days)
    if as_of is None:
        return None
    return recommenders.fit(evaluation.training_set(events, as_of, this.gap, seen), decided.recipe)


def main(argv: Sequence[str] | None = None) -> int:
    return job.run("recommend_items", __doc__ or "", work, argv)


if __name__ == "__main__":
    sys.exit(main())
