"""Models of what an impression leads to: a click, or that its item is put into the cart or bought. DataFrames in.

They learn from `training_examples`: what was known at the moment of the impression, and the clicks that its place in
the list got from anybody (`expected_clicks`), so that an item is not taken for better than its place. Who ranks with
such a model gives all candidates the same place.

Protocol. Examples are split by their time: the last fifth is the holdout. The baseline says of each what is known
without a model: the clicks of its place, or the share of the train part. Log losses are compared pair by pair;
intervals of differences are over visitors, by bootstrap; calibration folds keep a visitor's examples together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from processing.algorithms.recipes import Recipe
from processing.feature_definitions import COVISIT, ITEM, PAIR, VISITOR, season
from processing.tables import event_times
from processing.training import CLASSIFIERS, classifiers
from processing.training.classification_metrics import Bin, evaluate, log_losses, reliability
from processing.training.classifiers import Classifier
from processing.training.metrics import Estimate, bootstrap_ratio

CLICKED, CONVERTED = OUTCOMES = ("clicked", "converted")
EVERYBODY = "all"  # the segment
BASELINE = "baseline"
PLACE = "expected_clicks"
NUMERIC = (
    *season(0),
    *(f"item_{feature.name}" for feature in ITEM),
    *(f"visitor_{feature.name}" for feature in VISITOR),
    *(f"pair_{feature.name}" for feature in PAIR),
    *(f"covisit_{feature.name}" for feature in COVISIT),
    PLACE,
)
CATEGORICAL = ("device_type",)
QUANTILE = 0.8
LEAST = 20  # examples of each label that a fold needs
MAX_JUDGED = 100_000  # examples of the holdout, about; of more, those of the visitors with the lowest hash
_FOLDS, _HASHES, _SEED = 2, 1_000_003, 42
Vector = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Judged:
    """A contestant in one segment of the holdout. `saved`: by how much its log loss lies below the baseline's."""

    contestant: str
    segment: str
    examples: int
    positives: int
    estimates: Mapping[str, Estimate]
    saved: Estimate
    reliability: Sequence[Bin]


@dataclass(frozen=True)
class Scored:
    """The holdout in this process: a row each, and what each contestant says of it."""

    visitors: npt.NDArray[np.int64]
    labels: Vector
    segments: Mapping[str, npt.NDArray[np.bool_]]
    said: Mapping[str, Vector]

    def judged(self) -> list[Judged]:
        """Each contestant in each segment that has both labels."""
        pairs = [(contestant, segment) for contestant in self.said for segment in self.segments]
        return [one for pair in pairs if (one := self._judge(*pair))]

    def _judge(self, contestant: str, segment: str) -> Judged | None:
        rows = self.segments[segment]
        labels, said = self.labels[rows], self.said[contestant][rows]
        if not 0 < labels.sum() < len(labels):
            return None
        estimates = evaluate(labels, said, self.visitors[rows], resamples=200)
        saved = self.saved(contestant, BASELINE, rows)
        return Judged(contestant, segment, len(labels), int(labels.sum()), estimates, saved, reliability(labels, said))

    def saved(self, by: str, instead_of: str, rows: npt.NDArray[np.bool_] | None = None) -> Estimate:
        """Mean log loss saved per example; the interval is over visitors."""
        chosen = np.ones(len(self.labels), dtype=bool) if rows is None else rows
        labels, visitors = self.labels[chosen], self.visitors[chosen]
        less = log_losses(labels, self.said[instead_of][chosen]) - log_losses(labels, self.said[by][chosen])
        return bootstrap_ratio(np.bincount(visitors, weights=less).tolist(), np.bincount(visitors).tolist())


def examples(rows: DataFrame) -> DataFrame:
    """Rows of `training_examples` as models take them: labels are 0 and 1, `time` is milliseconds since 1970."""
    return rows.select(
        "visitor_id",
        F.unix_millis("occurred_at").alias("time"),
        *[F.col(outcome).cast("int").alias(outcome) for outcome in OUTCOMES],
        *NUMERIC,
        *CATEGORICAL,
        F.pmod(F.xxhash64("visitor_id"), F.lit(_FOLDS)).alias("fold"),
    )


def split_at(rows: DataFrame) -> int | None:
    """The time by which four fifths of the examples had happened, in milliseconds since 1970; None without any."""
    return event_times.moment(rows, F.col("time"), QUANTILE)


def parts(rows: DataFrame, split: int) -> tuple[DataFrame, DataFrame]:
    """The rows before the split, and the rest."""
    return rows.filter(F.col("time") < split), rows.filter(F.col("time") >= split)


def enough(rows: DataFrame, outcome: str) -> bool:
    """Whether each fold has so many examples of both labels that something can be learnt."""
    positives = F.count_if(F.col(outcome) == 1)
    counts = rows.groupBy("fold").agg(positives.alias("yes"), (F.count("*") - positives).alias("no")).collect()
    return len(counts) == _FOLDS and all(min(row["yes"], row["no"]) >= LEAST for row in counts)


def choose(train: DataFrame, outcome: str, algorithms: Sequence[str]) -> Recipe:
    """The algorithm, with the parameters that its inner folds chose, that loses least on the last fifth of `train`."""
    early, late = parts(train, split_at(train) or 0)
    if not (enough(early, outcome) and enough(late, outcome)):
        return Recipe(algorithms[0], dict(CLASSIFIERS[algorithms[0]][0]))
    models = {name: classifiers.fit(early, outcome, NUMERIC, CATEGORICAL, "fold", name) for name in algorithms}
    scored = score(models, early, late, outcome)
    losses = {name: float(log_losses(scored.labels, scored.said[name]).mean()) for name in algorithms}
    best = models[min(losses, key=lambda name: losses[name])]
    return Recipe(best.algorithm, dict(best.parameters))


def fit(rows: DataFrame, outcome: str, recipe: Recipe) -> Classifier:
    """Learns from all `rows`; raises ValueError unless there are `enough`."""
    grid = (recipe.parameters,)
    return classifiers.fit(rows, outcome, NUMERIC, CATEGORICAL, "fold", recipe.algorithm, grid, _SEED)


def score(models: Mapping[str, Classifier], train: DataFrame, held: DataFrame, outcome: str) -> Scored:
    """Probabilities of the holdout's rows by each model and by the baseline."""
    share = train.agg(F.avg(outcome)).collect()[0][0]
    known = F.col(PLACE) if outcome == CLICKED else F.lit(share)
    kept = min(1.0, MAX_JUDGED / max(held.count(), 1))
    some = held.filter(F.pmod(F.xxhash64("visitor_id"), F.lit(_HASHES)) < int(_HASHES * kept))
    some = some.withColumn("_baseline", F.coalesce(known, F.lit(share)))
    for number, model in enumerate(models.values()):
        some = model.score(some).withColumnRenamed("probability", f"_said_{number}")
    new = F.coalesce(F.col("visitor_views_30d"), F.lit(0)) == 0
    columns = ["visitor_id", outcome, "device_type", "_baseline", *[f"_said_{n}" for n in range(len(models))]]
    table = some.select(*columns, new.alias("is_new")).toArrow()
    _, visitors = np.unique(table["visitor_id"].to_numpy(zero_copy_only=False), return_inverse=True)
    is_new = table["is_new"].to_numpy(zero_copy_only=False).astype(bool)
    devices = np.array([device or "unknown" for device in table["device_type"].to_pylist()], dtype=object)
    segments = {EVERYBODY: np.ones(len(table), dtype=bool), "visitors: new": is_new, "visitors: returning": ~is_new}
    segments |= {f"device: {device}": devices == device for device in sorted(set(devices))}
    said = {name: table[f"_said_{number}"].to_numpy() for number, name in enumerate(models)}
    return Scored(
        visitors,
        table[outcome].to_numpy().astype(np.float64),
        segments,
        {**said, BASELINE: table["_baseline"].to_numpy()},
    )


def values(rows: DataFrame) -> DataFrame:
    """(name, value, visitor_id) of all numbers that models learn from, one below the other, without those that are not
    known, and without the clock: other hours than the champion's are no drift."""
    names = [name for name in NUMERIC if name not in season(0)]
    numbers = rows.select("visitor_id", *[F.col(name).cast("double").alias(name) for name in names])
    return numbers.unpivot(["visitor_id"], [*names], "name", "value").filter(F.col("value").isNotNull())
