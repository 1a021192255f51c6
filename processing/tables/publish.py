"""Write, audit, publish: rows go to a branch of the table, are checked there, and are everybody's by one commit.

A branch starts at what is published now; what another writer publishes meanwhile is a conflict, and the whole is done
anew. What a run that died left on its branch is replaced by the next one's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from processing.tables import iceberg, partitions
from processing.tables.iceberg import Table

Approve = Callable[[DataFrame], None]  # raises if the rows must not be published
_CONFLICTS = ("CommitFailedException", "ValidationException", "AlreadyExistsException", "is not an ancestor of")

# Compaction has joined the batch's files with those of others, which Iceberg overwrites as a whole only.
_SHARED_FILE = "Cannot delete file where some, but not all, rows match filter"


@dataclass(frozen=True)
class Change:
    """What is written to a branch of a table, and who approves of what the branch then has."""

    table: Table
    branch: str
    write: Callable[[str], None]
    approve: Approve


def overwrite(spark: SparkSession, table: Table, rows: DataFrame, batch: int, approve: Approve) -> None:
    """Replaces the rows of `batch`; no rows clear it. `rows` has the table's columns but `batch`."""
    all_or_none(spark, overwriting(table, rows, batch, approve))


def overwriting(table: Table, rows: DataFrame, batch: int, approve: Approve) -> Change:
    """What `overwrite` does, to be published together with other changes."""
    frame = rows.withColumn("batch", F.lit(batch).cast("bigint")).select(*table.columns)

    def write(branch: str) -> None:
        try:
            frame.writeTo(branch).overwrite(F.col("batch") == batch)
        except Exception as error:
            if _SHARED_FILE not in str(error):
                raise
            frame.sparkSession.sql(f"DELETE FROM {branch} WHERE batch = {batch}")
            frame.writeTo(branch).append()

    return Change(table, f"audit_{batch}", write, lambda written: approve(written.filter(F.col("batch") == batch)))


def replace_matching(spark: SparkSession, table: Table, rows: DataFrame, branch: str, approve: Approve) -> None:
    """Rows with `gone` are deleted, the others updated or inserted, by a branch of that name. Two rows are the same if
    they have partition and key in common. What is approved are the rows that were put, as the table has them; files of
    other partitions stay closed. `rows` is read more than once."""
    frame = rows.select(*table.columns, "gone").alias("new")
    touched = partitions.condition(rows, table)
    key = table.key if "batch" not in table.columns else ("batch", *table.key)
    put = frame.filter(~F.col("gone")).select(*key)

    def write(branch: str) -> None:
        same = [*(f"{branch}.{name} = new.{name}" for name in key), touched.format(f"{branch}.")]
        (
            frame.mergeInto(branch, F.expr(" AND ".join(same)))
            .whenMatched(F.col("new.gone"))
            .delete()
            .whenMatched()
            .updateAll()
            .whenNotMatched(~F.col("new.gone"))
            .insertAll()
            .merge()
        )

    def check(written: DataFrame) -> None:
        approve(written.filter(touched.format("")).join(put, on=[*key], how="left_semi"))

    if touched == partitions.NOTHING:
        approve(rows.drop("gone"))
    else:
        all_or_none(spark, Change(table, branch, write, check))


def delete(spark: SparkSession, table: Table, visitors: DataFrame, until: int) -> None:
    """Deletes the rows of these visitors (visitor_id) in the batches up to `until`."""
    name = table.full_name
    own = F.expr(f"{name}.visitor_id = gone.visitor_id AND {name}.batch <= {until}")
    _retried(lambda: visitors.alias("gone").mergeInto(name, own).whenMatched().delete().merge())


def all_or_none(spark: SparkSession, *changes: Change) -> None:
    """Nothing is published before all are approved. A commit that lost against another writer is made anew; its
    conflict is never ignored."""
    for change in changes:
        _retried(partial(_stage, spark, change))
    for change in changes:
        try:
            _release(spark, change)
        except Exception as error:
            if not _is_conflict(error):
                raise
            _retried(partial(_stage_and_release, spark, change))


def _stage(spark: SparkSession, change: Change) -> None:
    table = change.table.full_name
    iceberg.create(spark, change.table)
    _drop(spark, change)  # Iceberg replaces no branch of a table that has no rows yet
    spark.sql(f"ALTER TABLE {table} CREATE BRANCH {change.branch}")
    change.write(f"{table}.branch_{change.branch}")
    change.approve(spark.read.option("branch", change.branch).table(table))


def _stage_and_release(spark: SparkSession, change: Change) -> None:
    _stage(spark, change)
    _release(spark, change)


def _release(spark: SparkSession, change: Change) -> None:
    _fast_forward(spark, change.table, change.branch)
    _drop(spark, change)


def _drop(spark: SparkSession, change: Change) -> None:
    spark.sql(f"ALTER TABLE {change.table.full_name} DROP BRANCH IF EXISTS {change.branch}")


def _retried(attempt: Callable[[], None]) -> None:
    """Tries again after a commit that lost against another writer's."""
    for one in Retrying(
        retry=retry_if_exception(_is_conflict),
        stop=stop_after_attempt(5),
        wait=wait_random_exponential(multiplier=0.5, max=10),
        reraise=True,
    ):
        with one:
            attempt()


def _fast_forward(spark: SparkSession, table: Table, branch: str) -> None:
    """By Iceberg's own interface: its procedure would compare the table with every plan that Spark has cached, for
    seconds, though none is of the branch."""
    iceberg.load(spark, table).manageSnapshots().fastForwardBranch("main", branch).commit()


def _is_conflict(error: BaseException) -> bool:
    """Tells by the names of Iceberg's exceptions, which Spark wraps in exceptions of its own."""
    return any(name in str(error) for name in _CONFLICTS)
