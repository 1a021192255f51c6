"""Write, audit, publish: rows go to a branch of the table, are checked there, and are everybody's by one commit.

A branch starts at what is published now; what another writer publishes meanwhile is a conflict, and the whole is done
anew. What a run that died left on its branch is replaced by the next one's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from processing.iceberg import Table, create

Approve = Callable[[DataFrame], None]  # raises when what is to be published must not be
_CONFLICTS = ("CommitFailedException", "ValidationException", "AlreadyExistsException", "is not an ancestor of")


def overwrite(spark: SparkSession, table: Table, rows: DataFrame, batch: int, approve: Approve) -> None:
    """Replaces the rows of `batch`; no rows clear it. `rows` has the table's columns but `batch`."""
    frame = rows.withColumn("batch", F.lit(batch).cast("bigint")).select(*table.columns)

    def write(branch: str) -> None:
        frame.writeTo(branch).overwrite(F.col("batch") == batch)

    _publish(spark, table, f"audit_{batch}", write, lambda written: approve(written.filter(F.col("batch") == batch)))


def replace_matching(
    spark: SparkSession, table: Table, rows: DataFrame, branch: str, approve: Approve, within: tuple[str, ...] = ()
) -> None:
    """Rows with `gone` are deleted, the others updated or inserted, by a branch of that name. Two rows are the same if
    they have the table's key in common, and the columns `within` which alone it is unique."""
    frame = rows.select(*table.columns, "gone").alias("new")

    def write(branch: str) -> None:
        same = " AND ".join(f"{branch}.{key} = new.{key}" for key in (*within, *table.key))
        (
            frame.mergeInto(branch, F.expr(same))
            .whenMatched(F.col("new.gone"))
            .delete()
            .whenMatched()
            .updateAll()
            .whenNotMatched(~F.col("new.gone"))
            .insertAll()
            .merge()
        )

    _publish(spark, table, branch, write, approve)


def delete(spark: SparkSession, table: Table, visitors: DataFrame, until: int) -> None:
    """Deletes the rows of these visitors (visitor_id) in the batches up to `until`."""
    name = table.full_name
    own = F.expr(f"{name}.visitor_id = gone.visitor_id AND {name}.batch <= {until}")
    _retried(lambda: visitors.alias("gone").mergeInto(name, own).whenMatched().delete().merge())


def _publish(spark: SparkSession, table: Table, branch: str, write: Callable[[str], None], approve: Approve) -> None:
    """A commit that lost against another writer is made anew; its conflict is never ignored."""

    def attempt() -> None:
        create(spark, table)
        drop = f"ALTER TABLE {table.full_name} DROP BRANCH IF EXISTS {branch}"
        spark.sql(drop)  # Iceberg replaces no branch of a table that has no rows yet
        spark.sql(f"ALTER TABLE {table.full_name} CREATE BRANCH {branch}")
        write(f"{table.full_name}.branch_{branch}")
        approve(spark.read.option("branch", branch).table(table.full_name))
        _fast_forward(spark, table, branch)
        spark.sql(drop)

    _retried(attempt)


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
    found = cast(Any, spark._jvm).org.apache.iceberg.spark.Spark3Util.loadIcebergTable(
        spark._jsparkSession, table.full_name
    )
    found.manageSnapshots().fastForwardBranch("main", branch).commit()


def _is_conflict(error: BaseException) -> bool:
    """By the names of Iceberg's exceptions, which come wrapped in whatever Spark makes of them."""
    return any(name in str(error) for name in _CONFLICTS)
