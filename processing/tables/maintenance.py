"""Keeps a table quick to read and no larger than it must be, by Iceberg's own procedures.

https://iceberg.apache.org/docs/latest/spark-procedures/
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from processing.tables.iceberg import CATALOG, WEEKLY, Table, load

_SMALL_FILES = 5  # in a partition, from which on they are compacted


def compact(spark: SparkSession, table: Table) -> dict[str, int]:
    """Joins small data files of a partition, sorted so that each batch is in few of them, and all files of a
    partitioning that is no longer declared; `files` that were joined, and what they `became`."""
    older = f"SELECT 1 FROM {table.full_name}.files WHERE spec_id <> {load(spark, table).spec().specId()} LIMIT 1"
    options = {"min-input-files": _SMALL_FILES} | ({"rewrite-all": "true"} if spark.sql(older).collect() else {})
    listed = ", ".join(f"'{name}', '{value}'" for name, value in options.items())
    by_batch = f"batch, {table.ordered_by}".rstrip(", ")
    order = ["strategy => 'sort'", f"sort_order => '{by_batch}'"] if table.partitioned_by == WEEKLY else []
    row = _call(spark, "rewrite_data_files", table, f"options => map({listed})", *order)
    return {"files": row["rewritten_data_files_count"], "became": row["added_data_files_count"]}


def drop_batches(spark: SparkSession, table: Table, before: int) -> dict[str, int]:
    """Deletes the `batches` below `before`, of a table with a partition for each."""
    old = spark.table(f"{table.full_name}.partitions").filter(F.col("partition.batch") < before)
    if count := old.select("partition.batch").distinct().count():
        spark.sql(f"DELETE FROM {table.full_name} WHERE batch < {before}")
    return {"batches": count}


def expire(spark: SparkSession, table: Table, older_than: datetime) -> dict[str, int]:
    """Forgets snapshots that are older, but for the newest and those with a tag, which models were trained on;
    deletes the `expired_files` that only they used."""
    row = _call(spark, "expire_snapshots", table, f"older_than => {_timestamp(older_than)}", "retain_last => 1")
    return {"expired_files": sum(count for name, count in row.items() if name.startswith("deleted_"))}


def drop_references(spark: SparkSession, table: Table, older_than: datetime) -> None:
    """Drops the tags, and what is left of branches, of snapshots that are older: nothing spares those any more."""
    old = f"SELECT snapshot_id FROM {table.full_name}.snapshots WHERE committed_at < {_timestamp(older_than)}"
    refs = f"SELECT name, type FROM {table.full_name}.refs WHERE name <> 'main' AND snapshot_id IN ({old})"
    for row in spark.sql(refs).collect():
        spark.sql(f"ALTER TABLE {table.full_name} DROP {row['type']} `{row['name']}`")


def remove_orphans(spark: SparkSession, table: Table, older_than: datetime) -> dict[str, int]:
    """Deletes the `orphans`, older files in the table's folder that no snapshot knows: those of writers that died.

    Iceberg refuses moments of the last day: a file may belong to a commit that is still to come.
    """
    rows = _rows(spark, "remove_orphan_files", table, f"older_than => {_timestamp(older_than)}")
    return {"orphans": len(rows)}


def _call(spark: SparkSession, procedure: str, table: Table, *arguments: str) -> dict[str, Any]:
    [row] = _rows(spark, procedure, table, *arguments)
    return row


def _rows(spark: SparkSession, procedure: str, table: Table, *arguments: str) -> list[dict[str, Any]]:
    name = table.full_name.removeprefix(f"{CATALOG}.")
    call = f"CALL {CATALOG}.system.{procedure}(" + ", ".join([f"table => '{name}'", *arguments]) + ")"
    return [row.asDict() for row in spark.sql(call).collect()]


def _timestamp(moment: datetime) -> str:
    return f"TIMESTAMP '{moment.isoformat(sep=' ', timespec='milliseconds')}'"
