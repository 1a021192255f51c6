"""Learns from impressions which of them are clicked, and which lead into the cart: models of their chances.

From the training examples of the last processing.training_days up to the batch, for each outcome (clicked, converted):
the algorithm of processing.click_algorithms that loses least on the last fifth of the train part, with the parameters
of its inner folds, is the challenger. Both it and the registry's champion, if that has another recipe, learn from the
train part, the first four fifths of time, and are judged on the rest: AUC, PR-AUC, log loss, Brier score, calibration
error with 95 % bootstrap intervals, of all, new and returning visitors, and by device.

The challenger is promoted when it loses less than what is known without a model (the click rate of the place in its
list, or the base rate; paired bootstrap over visitors) and less than the champion (Student's t over visitors, asked
once a day), when its probabilities are calibrated and differ, and when the features have not drifted. Otherwise the
champion's recipe stays. Whoever is in force learns from all of these. With fewer than 20 examples of a label in each
fold there is no model.

MLflow gets models `clicked` and `converted`: recipe, metrics, reliability.png, importances, snapshot, gate.json.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from pyspark.sql import functions as F

from processing.runtime import job
from processing.runtime.job import Job
from processing.tables import event_times, snapshots
from processing.tables.feature_schemas import TRAINING_EXAMPLES
from processing.training import click_models, drift, outcomes
from processing.training.outcomes import OUTCOMES


def work(this: Job) -> dict[str, Any]:
    """Each outcome on its own."""
    snapshot = snapshots.newest(this.spark, TRAINING_EXAMPLES)
    snapshots.tag_trained(this.spark, TRAINING_EXAMPLES, this.batch, snapshot)
    known = snapshots.read(this.spark, TRAINING_EXAMPLES, snapshot, this.batch)
    rows = outcomes.examples(event_times.newest_days(known, this.settings.processing.training_days)).persist()
    distributions = drift.reference(rows, F.col("time"), this.settings.processing.drift_days, outcomes.values)
    facts: dict[str, Any] = {
        "snapshots": {TRAINING_EXAMPLES.name: snapshot},
        "examples": rows.count(),
        "distributions": {name: asdict(one) for name, one in distributions.items()},
    }
    found = {outcome: click_models.learn(this, rows, outcome, facts) for outcome in OUTCOMES}
    return {"examples": facts["examples"], **{f"{outcome}_model": one.version for outcome, one in found.items()}}


def main(argv: Sequence[str] | None = None) -> int:
    return job.run("train_click_models", __doc__ or "", work, argv)


if __name__ == "__main__":
    sys.exit(main())
