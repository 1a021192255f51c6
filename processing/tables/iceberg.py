"""Tables in Iceberg's catalog: declared, created, evolved and read here. `publish` writes them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from processing.errors import MissingTable, WrongSchema

CATALOG = "clickstream"
NAMESPACE = f"{CATALOG}.db"
WEEKLY = "truncate(168, batch)"  # as many batches as a week has hours: their files can be joined


@dataclass(frozen=True)
class Table:
    """`columns`: name -> SQL type, in order; `job` is the job that makes it.

    What `quality` holds of its rows: `key` is unique within a batch and never null, nor are the `required`; `ranges`
    are [least, most] of a column, None where there is no bound. `steady`: a batch has about as many rows as those of
    the same hours of the weeks before.
    """

    name: str
    job: str
    columns: Mapping[str, str] = field(hash=False)
    key: tuple[str, ...]
    required: tuple[str, ...] = ()
    ranges: Mapping[str, tuple[float | None, float | None]] = field(default_factory=dict, hash=False)
    partitioned_by: str = "batch"
    ordered_by: str = ""
    steady: bool = False

    @property
    def full_name(self) -> str:
        return f"{NAMESPACE}.{self.name}"


def read(spark: SparkSession, table: Table) -> DataFrame:
    """All rows. Raises MissingTable."""
    if not spark.catalog.tableExists(table.full_name):
        raise MissingTable(table.full_name, table.job)
    return spark.table(table.full_name)


def read_batch(spark: SparkSession, table: Table, batch: int) -> DataFrame:
    """The rows of one batch, with all columns. Raises MissingTable."""
    return read(spark, table).filter(F.col("batch") == batch)


def sizes(spark: SparkSession, table: Table, batches: Collection[int]) -> list[int]:
    """Row counts of those of the batches that have rows, from the metadata of a table with a partition for each."""
    partitions = spark.table(f"{table.full_name}.partitions").filter(F.col("partition.batch").isin(*batches))
    return [int(row["record_count"]) for row in partitions.select("record_count").collect()]


def schema(table: Table) -> StructType:
    """Its columns as Spark declares them."""
    return cast(StructType, StructType.fromDDL(", ".join(f"`{name}` {type_}" for name, type_ in table.columns.items())))


def create(spark: SparkSession, table: Table) -> None:
    """Creates the table where it is missing, and adds columns and the partitioning that are new in this version. Raises
    WrongSchema."""
    if not spark.catalog.tableExists(table.full_name):
        columns = ", ".join(f"`{name}` {type_}" for name, type_ in table.columns.items())
        spark.sql(f"CREATE NAMESPACE IF NOT EXISTS {NAMESPACE}")
        properties = ", ".join(f"'{name}' = '{value}'" for name, value in _properties(table).items())
        spark.sql(
            f"CREATE TABLE IF NOT EXISTS {table.full_name} ({columns}) USING iceberg"
            f" PARTITIONED BY ({table.partitioned_by}) TBLPROPERTIES ({properties})"
        )
        if table.ordered_by:
            spark.sql(
                f"ALTER TABLE {table.full_name} WRITE DISTRIBUTED BY PARTITION LOCALLY ORDERED BY {table.ordered_by}"
            )
        return
    present = dict(spark.table(table.full_name).dtypes)
    for column in schema(table).fields:
        found, wanted = present.get(column.name), column.dataType.simpleString()
        if found not in (None, wanted):
            raise WrongSchema(table.full_name, column.name, str(found), wanted)
    added = ", ".join(f"`{name}` {type_}" for name, type_ in table.columns.items() if name not in present)
    if added:
        spark.sql(f"ALTER TABLE {table.full_name} ADD COLUMNS ({added})")
    _partition(spark, table)


def _partition(spark: SparkSession, table: Table) -> None:
    """New files follow the declared partitioning from now on, old ones once they are compacted."""
    found = load(spark, table)
    fields = [(one.name(), str(one.transform()), one.sourceId()) for one in found.spec().fields()]
    present = [f"{transform}({found.schema().findColumnName(source)})" for _, transform, source in fields]
    if present == [_as_iceberg_writes(table.partitioned_by)]:
        return
    replaced = f"REPLACE PARTITION FIELD {fields[0][0]} WITH" if fields else "ADD PARTITION FIELD"
    spark.sql(f"ALTER TABLE {table.full_name} {replaced} {table.partitioned_by}")


def _as_iceberg_writes(partitioning: str) -> str:
    """`truncate(168, batch)` is truncate[168](batch) there, `days(x)` day(x), and `x` identity(x)."""
    if "(" not in partitioning:
        return f"identity({partitioning})"
    name, column = partitioning.rstrip(")").split("(")
    if "," not in column:
        return f"{name.removesuffix('s')}({column})"
    width, column = column.split(", ")
    return f"{name}[{width}]({column})"


def load(spark: SparkSession, table: Table) -> Any:
    """Iceberg's own object of the table, for what Spark's SQL has no words for."""
    jvm: Any = spark._jvm
    return jvm.org.apache.iceberg.spark.Spark3Util.loadIcebergTable(spark._jsparkSession, table.full_name)


def _properties(table: Table) -> dict[str, str]:
    """Metadata keeps the least and greatest of numbers and times, and of no text: that would name people."""
    bounds = {
        f"write.metadata.metrics.column.{name}": "full"
        for name, type_ in table.columns.items()
        if type_ in ("BIGINT", "INT", "DOUBLE", "TIMESTAMP", "DATE")
    }
    always = {"format-version": "2", "write.metadata.delete-after-commit.enabled": "true"}
    return always | {"write.metadata.metrics.default": "counts"} | bounds
