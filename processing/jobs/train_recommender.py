"""Finds and trains the recommender of a batch, the challenger, and registers it in MLflow.

Which algorithm and parameters are best is searched on a time split within the train part, the first 80 % of the
interest events: each of processing.search_algorithms with its own parameters, and with more processing.search_trials
variations of them by Optuna, at most for processing.search_minutes, processing.search_jobs at once; last, blends of
the best. With fewer than 20 users to tell by, it is the first algorithm as it is. The chosen recipe is fitted twice: to
the train part for evaluate_recommender, and to all interactions for recommend_items. Both are written to
<root>/models/recommender/batch=<number>; with nothing to learn from there is no model, and what follows falls back to
popularity.

The Iceberg snapshots that were read are tagged `trained-<batch>`, so that expiry spares them; with their ids and the
recipe the same model can be fitted again. MLflow's run has the
recipe, all trials, the snapshots and the code's version (processing.mlflow_url; pip install 'clickstream[mlops]').
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from processing.runtime import job
from processing.runtime.job import Job
from processing.training import challenger


def work(this: Job) -> dict[str, Any]:
    """Searches, fits, saves and registers."""
    registry = this.registry()
    training = challenger.train(this, challenger.tag_snapshots(this))
    challenger.record(this, registry, training)
    return {
        "model_version": training.version,
        "interactions": training.interactions,
        "trained": training.final,
        "trials": len(training.trials),
    }


def main(argv: Sequence[str] | None = None) -> int:
    return job.run("train_recommender", __doc__ or "", work, argv)


if __name__ == "__main__":
    sys.exit(main())
