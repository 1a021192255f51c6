"""Classifiers side by side on anybody's examples, nested: what is chosen is chosen inside each fold's train part.

Protocol. Outer folds, stratified by the label; a fold's rows get their probabilities from a model of the other folds'
rows, whose parameters and calibration come from inner folds of these alone. Metrics are over all rows, each scored
once, and by fold; intervals are over rows. The baseline says the train part's base rate of everybody.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from processing.bench.clicks.examples import Examples
from processing.bench.splits import stratified_folds
from processing.training import classifiers
from processing.training.classification_metrics import evaluate, reliability

INNER = 2
BASELINE = "base rate"
Progress = Callable[[str], None]
Vector = npt.NDArray[np.float64]


def run(
    spark: SparkSession,
    examples: Examples,
    settings: Sequence[Sequence[str]],
    algorithms: Sequence[str],
    folds: int,
    seed: int,
    tell: Progress,
) -> dict[str, Any]:
    """Setting -> algorithm -> facts; each of `settings` are the columns to do without."""
    outer = stratified_folds(examples.labels, folds, seed)
    inner = stratified_folds(examples.labels * folds + outer, INNER, seed + 1)
    results: dict[str, Any] = {}
    for without in settings:
        title = f"without {', '.join(without)}" if without else "all columns"
        numeric = [name for name in examples.numeric if name not in without]
        categorical = [name for name in examples.categorical if name not in without]
        table = pa.table(
            {
                **{name: examples.table[name] for name in (*numeric, *categorical)},
                "_row": np.arange(len(outer)),
                "_label_of_row": examples.labels,
                "_outer": outer,
                "_inner": inner,
            }
        )
        frame = classifiers.frame_of(spark, table).cache()
        results[title] = {BASELINE: _facts(examples.labels, outer, _base_rates(examples.labels, outer))}
        for name in algorithms:
            probabilities, models = np.zeros(len(outer)), []
            for fold in range(folds):
                tell(f"{name}, {title}, fold {fold + 1} of {folds}")
                train, test = (frame.filter(F.col("_outer") != fold), frame.filter(F.col("_outer") == fold))
                model = classifiers.fit(train, "_label_of_row", numeric, categorical, "_inner", name, seed=seed)
                scored = model.score(test).select("_row", "probability").toArrow()
                probabilities[scored["_row"].to_numpy()] = scored["probability"].to_numpy()
                models.append(model)
            results[title][name] = _facts(examples.labels, outer, probabilities) | _made_of(models)
        frame.unpersist()
    return results


def _base_rates(labels: npt.NDArray[np.int64], outer: npt.NDArray[np.int64]) -> Vector:
    rates = np.array([labels[outer != fold].mean() for fold in range(int(outer.max()) + 1)])
    of_rows: Vector = rates[outer]
    return of_rows


def _facts(labels: npt.NDArray[np.int64], outer: npt.NDArray[np.int64], probabilities: Vector) -> dict[str, Any]:
    estimates = evaluate(labels, probabilities)
    by_fold = [
        {
            name: of.mean
            for name, of in evaluate(labels[outer == fold], probabilities[outer == fold], resamples=1).items()
        }
        for fold in range(int(outer.max()) + 1)
    ]
    return {
        **{name: estimate.mean for name, estimate in estimates.items()},
        **{f"{name}_interval": estimate.interval for name, estimate in estimates.items() if estimate.interval},
        "rows": len(labels),
        "positive": int(labels.sum()),
        "folds": by_fold,
        "reliability": [asdict(one) for one in reliability(labels, probabilities)],
    }


def _made_of(models: Sequence[classifiers.Classifier]) -> dict[str, Any]:
    """The parameters of each fold's model, and the mean of their importances."""
    means = {name: np.mean([model.importances[name] for model in models]) for name in models[0].importances}
    ordered = sorted(means.items(), key=lambda pair: -pair[1])
    return {
        "parameters": [dict(model.parameters) for model in models],
        "importances": {name: round(float(share), 4) for name, share in ordered},
    }
