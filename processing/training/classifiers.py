"""Click and conversion models: MLlib's classifiers in one Pipeline, weighted, tuned and calibrated by inner folds.

`fit` learns from a DataFrame and gives a Classifier, which can be saved and adds a column `probability` to another
DataFrame. Missing numbers become the median; of a column's categories the most frequent have a place each, rare and
unseen ones share the last. Rows of the rarer label weigh more, so that both labels weigh the same; Platt scaling
(Platt, 1999) of the log-odds on rows that a model has not learnt from makes these scores probabilities again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from multiprocessing.pool import ThreadPool
from typing import Any

import numpy as np
import pyarrow as pa
from pyspark import inheritable_thread_target
from pyspark.ml import Model, Pipeline, PipelineModel
from pyspark.ml.classification import GBTClassifier, LogisticRegression, RandomForestClassifier
from pyspark.ml.evaluation import BinaryClassificationEvaluator
from pyspark.ml.feature import (
    Bucketizer,
    Imputer,
    OneHotEncoder,
    SQLTransformer,
    StandardScaler,
    StringIndexer,
    VectorAssembler,
)
from pyspark.ml.functions import array_to_vector, vector_to_array
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from processing.training import CLASSIFIERS

Parameters = Mapping[str, Any]
Grid = Sequence[Parameters]

PLACES = 30  # categories of a column that are told apart
_LEAST = 1e-6
_ROWS = 100_000  # in a partition of rows that this process sends to Spark
_FIXED: Mapping[str, Parameters] = {
    "gbt": {"maxIter": 30, "stepSize": 0.2, "subsamplingRate": 0.7, "minInstancesPerNode": 10},
    "forest": {"numTrees": 60, "minInstancesPerNode": 5},
    "logistic": {"maxIter": 40, "tol": 1e-4, "standardization": False},
}


@dataclass(frozen=True)
class Classifier:
    """A fitted pipeline, the two numbers of its calibration, and what it was made of. `importances`: column -> share of
    the impurity that trees lost by it, or of logistic regression's absolute standardised coefficients."""

    pipeline: PipelineModel
    algorithm: str
    parameters: Parameters
    slope: float
    intercept: float
    importances: Mapping[str, float]

    def score(self, frame: DataFrame) -> DataFrame:
        """The frame with `probability` (of the label 1) added, or replaced."""
        scored = self.pipeline.transform(frame).withColumn("_log_odds", _log_odds())
        probability = 1 / (1 + F.exp(-(F.lit(self.slope) * F.col("_log_odds") + F.lit(self.intercept))))
        kept = [_quoted(name) for name in frame.columns if name != "probability"]
        return scored.select(*kept, probability.alias("probability"))

    def save(self, url: str) -> None:
        """Writes the model below `url`, in place of what is there."""
        self.pipeline.write().overwrite().save(f"{url}/pipeline")
        facts = {name: value for name, value in vars(self).items() if name != "pipeline"}
        line = SparkSession.active().createDataFrame(pa.table({"value": [json.dumps(facts)]}))
        line.coalesce(1).write.mode("overwrite").text(f"{url}/facts")

    @classmethod
    def load(cls, url: str) -> Classifier:
        """Reads what `save` wrote."""
        [row] = SparkSession.active().read.text(f"{url}/facts").collect()
        return cls(PipelineModel.load(f"{url}/pipeline"), **json.loads(row.value))


def fit(
    frame: DataFrame,
    label: str,
    numeric: Sequence[str],
    categorical: Sequence[str],
    fold: str,
    algorithm: str = "gbt",
    grid: Grid | None = None,
    seed: int = 42,
) -> Classifier:
    """Learns `label` (0 or 1) from the columns; `fold` numbers the inner folds, by which the parameters with the
    largest area under the ROC curve are chosen and the calibration is learnt; rows that hang together share a fold.

    Medians, categories and scales are those of the whole frame, labels apart. Raises ValueError for an unknown
    algorithm, no columns, a single fold, or rows of one label only.
    """
    if algorithm not in CLASSIFIERS or not (numeric or categorical):
        raise ValueError(
            f"{algorithm!r} is none of {', '.join(CLASSIFIERS)}" if numeric or categorical else "no columns"
        )
    prepared_by = Pipeline(stages=_preparation(algorithm, numeric, categorical, _unknown(frame, numeric))).fit(frame)
    prepared = prepared_by.transform(frame).select(
        "_features", F.col(_quoted(label)).cast("double").alias("_label"), F.col(_quoted(fold)).alias("_fold")
    )
    prepared = prepared.withColumn("_weight", _weight(prepared)).cache()
    try:
        choices = grid or CLASSIFIERS[algorithm]
        best, held_out = _choose(algorithm, prepared, choices, seed)
        slope, intercept = _calibration(held_out)
        model = _estimator(algorithm, choices[best], seed).fit(prepared)
    finally:
        prepared.unpersist()
    pipeline = PipelineModel([*prepared_by.stages, model])
    importances = _importances(model, numeric, categorical)
    return Classifier(pipeline, algorithm, dict(choices[best]), slope, intercept, importances)


def frame_of(spark: SparkSession, table: pa.Table) -> DataFrame:
    """A table of this process in few partitions: trees grow by many small jobs, whose tasks cost more than rows."""
    return spark.createDataFrame(table).coalesce(1 + len(table) // _ROWS)


def _unknown(frame: DataFrame, numeric: Sequence[str]) -> set[str]:
    """The columns without any number, which have no median."""
    numbers = [F.col(_quoted(name)).cast("double") for name in numeric]
    known = (
        frame.agg(*[F.count(F.when(~F.isnan(number), number)) for number in numbers]).collect()[0] if numeric else []
    )
    return {name for name, count in zip(numeric, known, strict=True) if not count}


def _preparation(
    algorithm: str, numeric: Sequence[str], categorical: Sequence[str], unknown: Collection[str]
) -> list[Any]:
    """Columns under short names of ours, then `_features`: numbers first, in their order, then categories. The
    `unknown` are 0 for everybody, now and when the model scores."""
    numbers, texts = range(len(numeric)), range(len(categorical))
    values = ["0" if name in unknown else _quoted(name) for name in numeric]
    casts = [f"CAST({value} AS DOUBLE) AS _n{at}" for at, value in enumerate(values)]
    casts += [f"CAST({_quoted(name)} AS STRING) AS _t{at}" for at, name in enumerate(categorical)]
    stages: list[Any] = [SQLTransformer(statement=f"SELECT *, {', '.join(casts)} FROM __THIS__")]
    imputed, places = [f"_m{at}" for at in numbers], [f"_p{at}" for at in texts]
    if imputed:
        stages.append(Imputer(inputCols=[f"_n{at}" for at in numbers], outputCols=imputed, strategy="median"))
    if places:
        indices = [f"_i{at}" for at in texts]
        stages += [
            StringIndexer(inputCols=[f"_t{at}" for at in texts], outputCols=indices, handleInvalid="keep"),
            # Indices go by frequency; those from the last place on are the rare ones.
            Bucketizer(
                splitsArray=[[*map(float, range(PLACES + 1)), float("inf")]] * len(texts),
                inputCols=indices,
                outputCols=places,
            ),
        ]
    if algorithm != "logistic":
        return [*stages, VectorAssembler(inputCols=[*imputed, *places], outputCol="_features")]
    if imputed:
        stages += [
            VectorAssembler(inputCols=imputed, outputCol="_numbers"),
            StandardScaler(inputCol="_numbers", outputCol="_scaled", withMean=True),
        ]
    coded = [f"_c{at}" for at in texts]
    if coded:
        stages.append(OneHotEncoder(inputCols=places, outputCols=coded, dropLast=False))
    inputs = [*(["_scaled"] if imputed else []), *coded]
    return [*stages, VectorAssembler(inputCols=inputs, outputCol="_features")]


def _weight(prepared: DataFrame) -> Any:
    """Each label as a whole weighs half of all rows."""
    counts = {row["_label"]: row["count"] for row in prepared.groupBy("_label").count().collect()}
    if set(counts) != {0.0, 1.0}:
        raise ValueError(f"labels are {sorted(counts, key=str)}, not 0 and 1")
    half = sum(counts.values()) / 2
    return F.when(F.col("_label") == 1, F.lit(half / counts[1.0])).otherwise(F.lit(half / counts[0.0]))


def _choose(algorithm: str, prepared: DataFrame, choices: Grid, seed: int) -> tuple[int, DataFrame]:
    """The best choice, and the log-odds of all rows by models that have not learnt from their fold."""
    folds = sorted(row[0] for row in prepared.select("_fold").distinct().collect())
    if len(folds) < 2:
        raise ValueError("calibration needs two folds at least")

    def held_out(task: tuple[Parameters, Any]) -> DataFrame:
        parameters, fold = task
        model = _estimator(algorithm, parameters, seed).fit(prepared.filter(F.col("_fold") != fold))
        scored: DataFrame = model.transform(prepared.filter(F.col("_fold") == fold))
        return scored.select("_label", _log_odds().alias("_log_odds"))

    tasks = [(parameters, fold) for parameters in choices for fold in folds]
    frames = _side_by_side(inheritable_thread_target(prepared.sparkSession)(held_out), tasks)
    pooled = [reduce(DataFrame.union, frames[at : at + len(folds)]) for at in range(0, len(tasks), len(folds))]
    if len(pooled) == 1:
        return 0, pooled[0]
    judge = BinaryClassificationEvaluator(rawPredictionCol="_log_odds", labelCol="_label")
    areas = [judge.evaluate(frame) for frame in pooled]
    best = int(np.argmax(areas))
    return best, pooled[best]


def _side_by_side(work: Callable[[Any], DataFrame], tasks: Sequence[Any]) -> list[DataFrame]:
    """Two at a time: between the small jobs of one, Spark's scheduler has time for the other's."""
    pool = ThreadPool(2)
    try:
        return pool.map(work, tasks, chunksize=1)
    finally:
        pool.close()


def _calibration(held_out: DataFrame) -> tuple[float, float]:
    """Slope and intercept by which log-odds become those of probabilities."""
    features = held_out.select("_label", array_to_vector(F.array("_log_odds")).alias("_features"))
    model = LogisticRegression(featuresCol="_features", labelCol="_label", maxIter=100).fit(features)
    return float(model.coefficients[0]), float(model.intercept)


def _estimator(algorithm: str, parameters: Parameters, seed: int) -> Any:
    options: dict[str, Any] = {"featuresCol": "_features", "labelCol": "_label", "weightCol": "_weight"}
    options |= {**_FIXED[algorithm], **parameters}
    if algorithm == "logistic":
        estimator: Any = LogisticRegression(**options)
    else:
        options["seed"] = seed
        estimator = GBTClassifier(**options) if algorithm == "gbt" else RandomForestClassifier(**options)
    # Trees take these by their setters alone.
    return estimator.setProbabilityCol("_probability").setRawPredictionCol("_raw").setPredictionCol("_prediction")


def _log_odds() -> Any:
    surely = vector_to_array(F.col("_probability"))[1]
    kept = F.greatest(F.least(surely, F.lit(1 - _LEAST)), F.lit(_LEAST))
    return F.log(kept / (1 - kept))


def _importances(model: Model, numeric: Sequence[str], categorical: Sequence[str]) -> dict[str, float]:
    """Column -> share, the largest first; a category's places count together."""
    if hasattr(model, "featureImportances"):
        values = model.featureImportances.toArray()
    else:
        sizes = np.abs(model.coefficients.toArray())  # type: ignore[attr-defined]
        places = sizes[len(numeric) :].reshape(len(categorical), -1).sum(axis=1) if len(categorical) else []
        values = np.r_[sizes[: len(numeric)], places]
    shares = values / max(float(np.sum(values)), 1e-12)
    pairs = sorted(zip([*numeric, *categorical], shares.tolist(), strict=True), key=lambda pair: -pair[1])
    return {name: round(share, 6) for name, share in pairs}


def _quoted(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"
