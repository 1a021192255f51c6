"""The recommender of a batch, the challenger: searched on a holdout, fitted, saved and registered."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ingest.event.event import to_millis
from processing import algorithms
from processing.algorithms import recipes
from processing.algorithms.interface import TrainingSet
from processing.runtime import code_version
from processing.runtime.job import Job
from processing.runtime.registry import Registry
from processing.tables import snapshots
from processing.tables.feature_schemas import INTERACTIONS
from processing.tables.schemas import EVENTS
from processing.training import drift, evaluation, model_files, search
from processing.training.model_files import Training
from processing.training.search import Budget


def tag_snapshots(this: Job) -> dict[str, int]:
    """Table -> its snapshot, which is kept from now on."""
    read = {table.name: snapshots.newest(this.spark, table) for table in (EVENTS, INTERACTIONS)}
    for table in (EVENTS, INTERACTIONS):
        snapshots.tag_trained(this.spark, table, this.batch, read[table.name])
    return read


def train(this: Job, read: dict[str, int]) -> Training:
    """Searches on the train part, fits both models and saves them."""
    events, as_of = evaluation.known(
        snapshots.read(this.spark, EVENTS, read[EVENTS.name], this.batch),
        this.settings.processing.feature_days,
        this.batch,
    )
    interactions = snapshots.read(this.spark, INTERACTIONS, read[INTERACTIONS.name], this.batch)
    interactions = interactions.filter(interactions["batch"] == this.batch).persist()
    split = evaluation.split_at(events)
    known = evaluation.training_set(events, split, this.gap) if split else None
    found = search.search(_validation(this, known, events), _budget(this))
    whole = None if as_of is None else evaluation.training_set(events, as_of, this.gap, interactions)
    models = {
        "holdout": recipes.fit(known, found.best) if known is not None else None,
        "final": recipes.fit(whole, found.best) if whole is not None else None,
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
        distributions=drift.reference(
            interactions, F.unix_millis("last_at"), this.settings.processing.drift_days, drift.of_interactions
        ),
        snapshots=read,
    )

    def write() -> None:
        for name, model in models.items():
            if model is not None:
                model.save(this.url(f"{model_files.folder(this.settings.hdfs.root, this.cut)}/{name}"))

    model_files.publish(this.fs, this.settings.hdfs.root, this.cut, training, write)
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
    return Budget(
        algorithms.searched(rules.search_algorithms), rules.search_trials, rules.search_minutes, rules.search_jobs
    )


def record(this: Job, registry: Registry, training: Training) -> None:
    """MLflow's run of this batch and recipe, and its version of the model where there is one."""
    run = model_files.run_tags(this.cut, training.recipe)
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
            "model_folder": this.url(model_files.folder(this.settings.hdfs.root, this.cut)),
            **{f"snapshot.{table}": str(snapshot) for table, snapshot in training.snapshots.items()},
        },
    )
    registry.finish(run_id)
    if training.final:
        source = this.url(f"{model_files.folder(this.settings.hdfs.root, this.cut)}/final")
        registry.register(run_id, training.version, this.batch, source, model_files.registered(training))
