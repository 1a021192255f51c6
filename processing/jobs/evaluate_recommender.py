"""Evaluates the recommender of a batch on a time split: recall@10 and nDCG@10, ALS beside popularity.

Both rank, for the same users, the items that each has not met before the split; what they met first afterwards is
relevant. Writes one row per algorithm to evaluations, with the number of users and 95 % bootstrap intervals. With no
such users the numbers are null.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from processing import features, job
from processing.job import Job
from processing.tables import EVALUATIONS, EVENTS
from processing.training import evaluation, store
from processing.training.evaluation import Comparison
from processing.training.store import Training


def work(this: Job) -> dict[str, Any]:
    """Compares the holdout model with popularity and writes the comparison."""
    training = store.read(this.fs, this.settings.hdfs.root, this.cut)
    compared = compare(this, training)
    types = {name: type_ for name, type_ in EVALUATIONS.columns.items() if name != "batch"}
    rows = evaluation.rows(compared, training.version, training.split_at)
    schema = ", ".join(f"{name} {type_}" for name, type_ in types.items())
    this.overwrite(EVALUATIONS, this.spark.createDataFrame([[row.get(name) for name in types] for row in rows], schema))
    return {"n_users": compared.n_users, "ndcg_at_10": compared.ndcg.mean, "baseline": compared.baseline_ndcg.mean}


def compare(this: Job, training: Training) -> Comparison:
    """Without a holdout model there is nobody to compare on."""
    if training.split_at is None or not training.holdout:
        return evaluation.compare([])
    split = features.from_millis(training.split_at)
    events = this.read(EVENTS).select("visitor_id", "item_id", "event_type", "occurred_at", "device").persist()
    train = evaluation.training_set(events, split).persist()
    relevant = evaluation.relevant_items(events, train, split).persist()
    factors = store.load(this.spark, this.url(f"{store.folder(this.settings.hdfs.root, this.cut)}/holdout"))
    return evaluation.compare(evaluation.lists(factors, train, relevant))


def main(argv: Sequence[str] | None = None) -> int:
    return job.run("evaluate_recommender", __doc__ or "", work, argv)


if __name__ == "__main__":
    sys.exit(main())
