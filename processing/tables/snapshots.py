"""Which state of a table a model learnt from: Iceberg snapshots, tagged so that expiry spares them."""

from __future__ import annotations

from collections.abc import Collection

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from processing.errors import MissingTable
from processing.tables.iceberg import Table

_TRAINED = "trained-"


def newest(spark: SparkSession, table: Table) -> int:
    """The id of the table's snapshot in force. Raises MissingTable, also for a table that was never written."""
    if not spark.catalog.tableExists(table.full_name):
        raise MissingTable(table.full_name, table.job)
    rows = spark.sql(f"SELECT snapshot_id FROM {table.full_name}.refs WHERE name = 'main'").collect()
    if not rows:
        raise MissingTable(table.full_name, table.job)
    return int(rows[0][0])


def tag(spark: SparkSession, table: Table, name: str, snapshot: int) -> None:
    """Gives the snapshot a name, which lasts until the name is given to another one."""
    spark.sql(f"ALTER TABLE {table.full_name} CREATE OR REPLACE TAG `{name}` AS OF VERSION {snapshot}")


def tag_trained(spark: SparkSession, table: Table, batch: int, snapshot: int) -> None:
    """Spares a snapshot that a model of the batch learns from: trained again, each has a tag of its own."""
    name = f"{_TRAINED}{batch}"
    taken = spark.sql(f"SELECT snapshot_id FROM {table.full_name}.refs WHERE name = '{name}'").collect()
    tag(spark, table, name if not taken or taken[0][0] == snapshot else f"{name}-{snapshot}", snapshot)


def untag_trained(spark: SparkSession, table: Table, before: int, kept: Collection[int]) -> dict[str, int]:
    """Drops the `tags` of batches below `before`, but of those `kept`."""
    rows = spark.sql(f"SELECT name FROM {table.full_name}.refs WHERE name LIKE '{_TRAINED}%'").collect()
    batches = {row[0]: int(row[0].removeprefix(_TRAINED).split("-")[0]) for row in rows}
    old = [name for name, batch in batches.items() if batch < before and batch not in kept]
    for name in old:
        spark.sql(f"ALTER TABLE {table.full_name} DROP TAG `{name}`")
    return {"tags": len(old)}


def read(spark: SparkSession, table: Table, snapshot: int, batch: int) -> DataFrame:
    """The rows up to `batch` as they were at `snapshot`, with the columns of then."""
    rows = spark.sql(f"SELECT * FROM {table.full_name} VERSION AS OF {snapshot}")
    return rows.filter(F.col("batch") <= batch)
