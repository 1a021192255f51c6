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

from pyspark.sql import DataFrame

from ingest.events import to_millis
from processing import code_version, job, snapshots
from processing.job import Job
from processing.registry import Registry
from processing.tables import EVENTS, INTERACTIONS
from processing.training import checks, evaluation, recommenders, search, store
from processing.training.recommenders import TrainingSet
from processing.training.search import Budget
from processing.training.store import Training


def work(this: Job) -> dict[str, Any]:
    """Searches, fits, saves and registers."""
    registry = this.registry()
    training = train(this, _tagged(this))
    record(this, registry, training)
    return {
        "model_version": training.version,
        "interactions": training.interactions,
        "trained": training.final,
        "trials": len(training.trials),
    }


def _tagged(this: Job) -> dict[str, int]:
    """Table -> its snapshot, which is kept from now on."""
    read = {table.name: snapshots.newest(this.spark, table) for table in (EVENTS, INTERACTIONS)}
    for table in (EVENTS, INTERACTIONS):
        snapshots.keep(this.spark, table, this.batch, read[table.name])
    return read


def train(this: Job, read: dict[str, int]) -> Training:
    """Searches on the train part, fits both models and saves them."""
    events, as_of = evaluation.known(
        snapshots.read(this.spark, EVENTS, read[EVENTS.name], this.batch), this.settings.processing.feature_days
    )
    interactions = snapshots.read(this.spark, INTERACTIONS, read[INTERACTIONS.name], this.batch)
    interactions = interactions.filter(interactions["batch"] == this.batch).persist()
    split = evaluation.split_at(events)
    known = evaluation.training_set(events, split, this.gap) if split else None
    found = search.search(_validation(this, known, events), _budget(this))
    whole = None if as_of is None else evaluation.training_set(events, as_of, this.gap, interactions)
    models = {
        "holdout": recommenders.fit(known, found.best) if known is not None else None,
        "final": recommenders.fit(whole, found.best) if whole is not None else None,
    }
    training = Training(
        version=f"{found.best.algorithm}-{this.cut.name}",
        recipe=found.best,
        split_at=None if split is None else to_millis(split),
        interactions=interactions.count(),
        holdout=models["holdout"] is not None,
        final=models["final"] is not None,
        trials=[trial.to_dict() for trial in found.trials],
        validated_on=found.n_users,
        distributions=checks.distributions(interactions),
        snapshots=read,
    )

    def write() -> None:
        for name, model in models.items():
            if model is not None:
                model.save(this.url(f"{store.folder(this.settings.hdfs.root, this.cut)}/{name}"))

    store.publish(this.fs, this.settings.hdfs.root, this.cut, training, write)
    return training


def _validation(this: Job, train: TrainingSet | None, events: DataFrame) -> evaluation.Holdout | None:
    """The last fifth of the train part, apart from the rest."""
    if train is None:
        return None
    before = events.filter(events["occurred_at"] < train.as_of)
    inner = evaluation.split_at(before)
    return None if inner is None else evaluation.hold_out(before, inner, this.gap)


def _budget(this: Job) -> Budget:
    rules = this.settings.processing
    return Budget(rules.search_algorithms, rules.search_trials, rules.search_minutes, rules.search_jobs)


def record(this: Job, registry: Registry, training: Training) -> None:
    """MLflow's run of this batch and recipe, and its version of the model where there is one."""
    run = store.run_tags(this.cut, training.recipe)
    run_id = registry.run(training.version, run)
    registry.log(
        run_id,
        parameters={"algorithm": training.recipe.algorithm, **training.recipe.parameters},
        metrics={
            "validation_ndcg": max((trial["ndcg"] or 0.0 for trial in training.trials), default=None),
            "interactions": training.interactions,
        },
        documents={"trials.json": training.trials, "recipe.json": training.recipe.to_dict()},
        tags={
            "code": code_version.of(this.settings),
            "model_folder": this.url(store.folder(this.settings.hdfs.root, this.cut)),
            **{f"snapshot.{table}": str(snapshot) for table, snapshot in training.snapshots.items()},
        },
    )
    registry.finish(run_id)
    if training.final:
        source = this.url(f"{store.folder(this.settings.hdfs.root, this.cut)}/final")
        registry.register(run_id, training.version, this.batch, source, store.registered(training))


def main(argv: Sequence[str] | None = None) -> int:
    return job.run("train_recommender", __doc__ or "", work, argv)


if __name__ == "__main__":
    sys.exit(main())
