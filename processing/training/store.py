"""Models on HDFS: what training leaves for evaluation and recommendation.

<root>/models/als/batch=<number>/{holdout,final}/{model,visitors,items}   factors, and which integer means which id
<root>/models/als/batch=<number>/training.json                           written last: without it there is no model
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Literal

from pyspark.ml.recommendation import ALSModel
from pyspark.sql import SparkSession

from processing.errors import MissingModel
from processing.training.als import Factors
from storage.batches import Cut
from storage.hdfs import Hdfs

Kind = Literal["holdout", "final"]


@dataclass(frozen=True, slots=True)
class Training:
    """What was learnt of a batch. `holdout` and `final` say which models there are: no data, no model.

    `split_at` is in milliseconds since 1970, None without interest events. `interactions` counts what the final model
    learnt from.
    """

    version: str
    split_at: int | None
    interactions: int
    holdout: bool
    final: bool


def folder(root: str, cut: Cut) -> str:
    return f"{root}/models/als/batch={cut.number}"


def checkpoints(root: str, cut: Cut) -> str:
    """Where training cuts its lineage; of no use afterwards."""
    return f"{folder(root, cut)}/_checkpoints"


def version(cut: Cut) -> str:
    """The model's name, which events carry as model_version."""
    return f"als-{cut.name}"


def save(factors: Factors, url: str) -> None:
    """Writes one model below `url`, in place of what a run that died may have left there."""
    factors.model.write().overwrite().save(f"{url}/model")
    factors.visitors.coalesce(1).write.mode("overwrite").parquet(f"{url}/visitors")
    factors.items.coalesce(1).write.mode("overwrite").parquet(f"{url}/items")


def load(spark: SparkSession, url: str) -> Factors:
    return Factors(
        ALSModel.load(f"{url}/model"),
        spark.read.parquet(f"{url}/visitors"),
        spark.read.parquet(f"{url}/items"),
    )


def publish(fs: Hdfs, root: str, cut: Cut, training: Training, write_models: Callable[[], None]) -> None:
    """Takes the old record away, has the models written, records the new: a crash leaves no record of half a model."""
    path = _record(root, cut)
    fs.delete(path)
    write_models()
    fs.write_atomically(path, json.dumps(asdict(training)).encode(), overwrite=True)


def read(fs: Hdfs, root: str, cut: Cut) -> Training:
    """Raises MissingModel when the batch was never trained."""
    try:
        return Training(**json.loads(fs.read(_record(root, cut))))
    except FileNotFoundError:
        raise MissingModel(cut.name, _record(root, cut)) from None


def _record(root: str, cut: Cut) -> str:
    return f"{folder(root, cut)}/training.json"
