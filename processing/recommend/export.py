"""The export for the web app: Parquet folders and report.json of one batch, published whole or not at all."""

from __future__ import annotations

from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from processing.errors import MissingTable
from processing.events import sessions
from processing.runtime.job import Job
from processing.runtime.registry import Registry
from processing.tables import iceberg
from processing.tables.feature_schemas import ITEM_FEATURES
from processing.tables.model_schemas import EVALUATIONS, POPULAR_ITEMS, RECOMMENDATIONS, SIMILAR_ITEMS
from processing.tables.schemas import EVENTS, SESSIONS
from processing.training import model_files
from processing.training.model_files import InForce
from processing.training.ranker import FINAL
from storage import exports


def folders(this: Job) -> dict[str, DataFrame]:
    """Name of a folder -> its rows; the first two columns are the order in which a reader wants them."""
    return {
        "for_visitors": this.read_batch(RECOMMENDATIONS).select("visitor_id", "rank", "item_id", "score", "source"),
        "similar": this.read_batch(SIMILAR_ITEMS).select("item_id", "rank", "similar_item_id", "score"),
        "popular": this.read_batch(POPULAR_ITEMS).select("rank", "item_id", "score"),
        "items": this.read_batch(ITEM_FEATURES).select("item_id", "title", "path", "views"),
    }


def report(this: Job) -> dict[str, Any]:
    """The facts of this batch alone, bots counted too; `recommendations` counts the rows for visitors."""
    decided = model_files.in_force(this.fs, this.settings.hdfs.root, this.cut)
    events = this.read_batch(EVENTS)
    visitors, items = events.agg(F.count_distinct("visitor_id"), F.count_distinct("item_id")).collect()[0]
    at = F.col("occurred_at")
    near = sessions.between(
        iceberg.read(this.spark, SESSIONS), events.select(at.alias("first_at"), at.alias("last_at")), this.gap
    )
    return {
        "batch": this.cut.name,
        "batch_number": this.batch,
        "model_version": decided.version,
        "sessions": near.filter(F.array_contains("batches", this.batch)).count(),
        "visitors": visitors,
        "items": items,
        "recommendations": this.read_batch(RECOMMENDATIONS).count(),
        "model": _model(this, decided),
    }


def write(this: Job, facts: dict[str, Any]) -> str:
    """Writes one complete version and returns its name; readers can't find it before it is complete."""
    root = this.settings.hdfs.root
    temporary = exports.unfinished(root)
    for name, rows in folders(this).items():
        rows.coalesce(1).sortWithinPartitions(*rows.columns[:2]).write.parquet(this.url(f"{temporary}/{name}"))
    return exports.name_version(this.fs, root, temporary, facts)


def put_in_force(this: Job, version: str) -> bool:
    """Points CURRENT to the version, unless what is in force was learnt from a later batch, or somebody has made
    another model champion since this batch was evaluated: by a rollback, say, whose lists are then shown."""
    root, champion = this.settings.hdfs.root, Registry(this.settings).champion()
    current = exports.read_report(this.fs, root)
    if current is not None and current.get("batch_number", 0) > this.batch:
        return False
    if champion is not None and not model_files.in_force(this.fs, root, this.cut).is_of(champion.name, this.cut):
        return False
    exports.publish_current(this.fs, root, version)
    return True


def _model(this: Job, decided: InForce) -> dict[str, Any]:
    """The evaluation of the lists that visitors see. Raises MissingTable when there was none."""
    rows = this.read_batch(EVALUATIONS).filter(F.col("segment") == "all").collect()
    found = {row["role"]: row for row in rows}
    if FINAL not in found or "baseline" not in found:
        raise MissingTable(EVALUATIONS.full_name, "train_ranker", this.cut.name)
    ours, baseline = found[FINAL], found["baseline"]
    difference = ours["ndcg_over_baseline_interval"]
    return {
        "algorithm": decided.recipe.algorithm if decided.recipe else "popular",
        "promoted": decided.promoted,
        "n_users": ours["n_users"],
        "recall_at_10": ours["recall"],
        "recall_at_10_interval": ours["recall_interval"],
        "ndcg_at_10": ours["ndcg"],
        "ndcg_at_10_interval": ours["ndcg_interval"],
        "baseline_recall_at_10": baseline["recall"],
        "baseline_recall_at_10_interval": baseline["recall_interval"],
        "baseline_ndcg_at_10": baseline["ndcg"],
        "baseline_ndcg_at_10_interval": baseline["ndcg_interval"],
        "ndcg_at_10_over_baseline": ours["ndcg_over_baseline"],
        "ndcg_at_10_over_baseline_interval": difference,
        "beats_baseline": None if difference is None else difference[0] > 0,
        "map_at_10": ours["map"],
        "mrr_at_10": ours["mrr"],
        "coverage": ours["coverage"],
        "novelty_bits": ours["novelty_bits"],
    }
