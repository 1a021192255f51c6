"""The lists that a batch's model in force gives its visitors, in the order of its ranker, if any."""

from __future__ import annotations

from datetime import datetime

from pyspark.sql import DataFrame

from ingest.event.event import to_millis
from processing.algorithms import recipes
from processing.algorithms.interface import Model
from processing.features import aggregates
from processing.runtime.job import Job
from processing.tables.feature_schemas import POSITION_RATES
from processing.tables.schemas import EVENTS
from processing.training import candidates, evaluation, lambdamart, model_files, ranker
from processing.training.model_files import InForce


def learned_lists(
    this: Job, model: Model | None, visitors: DataFrame, seen: DataFrame, events: DataFrame, as_of: datetime | None
) -> tuple[DataFrame | None, str | None]:
    """The model's lists, and the version of the ranker that ordered them, if any."""
    if model is None:
        return None, None
    n, ranked_by = this.settings.processing.recommendations_per_visitor, ranker.trees(this)
    if ranked_by is None or as_of is None:
        return model.top(visitors, seen, n).persist(), None
    version, trees = ranked_by
    seen_by_all = aggregates.occurrences(events, this.read_batch(POSITION_RATES)).persist()
    top = model.top(visitors, seen, candidates.DEPTH * n).persist()
    described = candidates.described(top, seen_by_all, to_millis(as_of) + 1)
    return lambdamart.reorder(described, trees, candidates.FEATURES, n).persist(), version


def model_in_force(this: Job, decided: InForce, seen: DataFrame) -> Model | None:
    """The batch's own model where its recipe is in force; else the champion's recipe, fitted to the same
    interactions."""
    root = this.settings.hdfs.root
    training = model_files.read(this.fs, root, this.cut)
    if decided.recipe is None:
        return None
    if decided.recipe == training.recipe:
        url = this.url(f"{model_files.folder(root, this.cut)}/final")
        return recipes.load(this.spark, training.recipe, url) if training.final else None
    events, as_of = evaluation.known(this.read(EVENTS), this.settings.processing.feature_days, this.batch)
    if as_of is None:
        return None
    return recipes.fit(evaluation.training_set(events, as_of, this.gap, seen), decided.recipe)
