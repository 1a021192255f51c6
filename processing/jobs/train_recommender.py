"""Trains the recommender of a batch: MLlib's ALS on implicit feedback, twice.

The holdout model learns from the events before a time split (80 % of the interest events), for evaluate_recommender;
the final one from all interactions, for recommend_items. Both are written to <root>/models/als/batch=<number>. With
nothing to learn from there is no model, and what follows falls back to popularity.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from ingest.events import to_millis
from processing import job
from processing.job import Job
from processing.tables import EVENTS, INTERACTIONS
from processing.training import als, evaluation, store
from processing.training.store import Training


def work(this: Job) -> dict[str, Any]:
    """Fits both models and saves them with their record."""
    recipe, root = als.Recipe(), this.settings.hdfs.root
    this.spark.sparkContext.setCheckpointDir(this.url(store.checkpoints(root, this.cut)))
    interactions = this.read_batch(INTERACTIONS).persist()
    events = this.read(EVENTS).select("visitor_id", "item_id", "event_type", "occurred_at", "device").persist()
    split = evaluation.split_at(events)
    train = evaluation.training_set(events, split).persist() if split else None
    models = {
        "holdout": als.fit(train, recipe) if train is not None else None,
        "final": als.fit(interactions, recipe),
    }
    training = Training(
        version=store.version(this.cut),
        split_at=None if split is None else to_millis(split),
        interactions=interactions.count(),
        holdout=models["holdout"] is not None,
        final=models["final"] is not None,
    )

    def write() -> None:
        for name, factors in models.items():
            if factors is not None:
                store.save(factors, this.url(f"{store.folder(root, this.cut)}/{name}"))

    store.publish(this.fs, root, this.cut, training, write)
    this.fs.delete(store.checkpoints(root, this.cut), recursive=True)
    return {"model_version": training.version, "interactions": training.interactions, "trained": training.final}


def main(argv: Sequence[str] | None = None) -> int:
    return job.run("train_recommender", __doc__ or "", work, argv)


if __name__ == "__main__":
    sys.exit(main())
