"""The Iceberg tables: names, schemas, creation, read and idempotent write.

    events  duplicates  invalid                        what became of each landed record     curate_events
    sessions                                           all sessions, kept up to date         build_sessions
    interactions  item_features  visitor_features      as of the data's time                 build_features
    evaluations                                        one row per contestant and segment    evaluate_recommender
    recommendations  similar_items  popular_items      what the export publishes             recommend_items

All but `sessions` are partitioned by `batch` (the cut's number): a rerun overwrites just its batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from tenacity import retry, retry_if_exception, stop_after_attempt, wait_random_exponential

from processing.errors import MissingTable

CATALOG = "clickstream"
NAMESPACE = f"{CATALOG}.db"
_CONFLICTS = ("CommitFailedException", "ValidationException", "AlreadyExistsException")


@dataclass(frozen=True)
class Table:
    """`columns`: name -> SQL type, in order; `job` is the job that makes it."""

    name: str
    job: str
    columns: Mapping[str, str] = field(hash=False)
    partitioned_by: str = "batch"
    ordered_by: str = ""

    @property
    def full_name(self) -> str:
        return f"{NAMESPACE}.{self.name}"


EVENTS = Table(
    "events",
    "curate_events",
    {
        "batch": "BIGINT",
        "partition": "INT",
        "offset": "BIGINT",
        "appended_at": "TIMESTAMP",
        "event_id": "STRING",
        "message_id": "STRING",
        "event_type": "STRING",
        "event_name": "STRING",
        "occurred_at": "TIMESTAMP",
        "received_at": "TIMESTAMP",
        "sequence": "BIGINT",
        "visitor_id": "STRING",
        "anonymous_id": "STRING",
        "user_id": "STRING",
        "client_session_id": "STRING",
        "page": "STRUCT<url: STRING, path: STRING, referrer: STRING, title: STRING>",
        "campaign": "MAP<STRING, STRING>",
        "device": "STRUCT<browser: STRING, os: STRING, type: STRING, is_bot: BOOLEAN>",
        "ip": "STRING",
        "consent": "MAP<STRING, BOOLEAN>",
        "write_key": "STRING",
        "source": "STRUCT<protocol: STRING, sdk: STRING, run: STRING>",
        "item_id": "STRING",
        "list_id": "STRING",
        "position": "INT",
        "propensity": "DOUBLE",
        "impression_id": "STRING",
        "model_version": "STRING",
        "order_id": "STRING",
        "value": "DOUBLE",
        "currency": "STRING",
        "quantity": "INT",
        "experiments": "MAP<STRING, STRING>",
        "properties": "MAP<STRING, STRING>",
        "flags": "ARRAY<STRING>",
        "late": "BOOLEAN",
    },
    ordered_by="occurred_at",
)
DUPLICATES = Table(
    "duplicates",
    "curate_events",
    {
        "batch": "BIGINT",
        "partition": "INT",
        "offset": "BIGINT",
        "appended_at": "TIMESTAMP",
        "event_id": "STRING",
        "winner_batch": "BIGINT",
        "winner_partition": "INT",
        "winner_offset": "BIGINT",
    },
)
INVALID = Table(
    "invalid",
    "curate_events",
    {
        "batch": "BIGINT",
        "partition": "INT",
        "offset": "BIGINT",
        "appended_at": "TIMESTAMP",
        "reason": "STRING",
        "event": "STRING",
    },
)
SESSIONS = Table(
    "sessions",
    "build_sessions",
    {
        "session_id": "STRING",
        "visitor_id": "STRING",
        "user_id": "STRING",
        "is_bot": "BOOLEAN",
        "started_at": "TIMESTAMP",
        "ended_at": "TIMESTAMP",
        "duration_seconds": "DOUBLE",
        "events": "BIGINT",
        "page_views": "BIGINT",
        "items": "BIGINT",
        "entry_page": "STRING",
        "exit_page": "STRING",
        "referrer": "STRING",
        "campaign": "MAP<STRING, STRING>",
        "device_type": "STRING",
        "browser": "STRING",
        "os": "STRING",
        "bounced": "BOOLEAN",
        "converted": "BOOLEAN",
        "batches": "ARRAY<BIGINT>",
    },
    partitioned_by="days(started_at)",
)
INTERACTIONS = Table(
    "interactions",
    "build_features",
    {
        "batch": "BIGINT",
        "visitor_id": "STRING",
        "item_id": "STRING",
        "events": "BIGINT",
        "weight": "DOUBLE",
        "first_at": "TIMESTAMP",
        "last_at": "TIMESTAMP",
        "as_of": "TIMESTAMP",
    },
)
ITEM_FEATURES = Table(
    "item_features",
    "build_features",
    {
        "batch": "BIGINT",
        "item_id": "STRING",
        "title": "STRING",
        "path": "STRING",
        "views": "BIGINT",
        "bot_views": "BIGINT",
        "visitors": "BIGINT",
        "impressions": "BIGINT",
        "clicks": "BIGINT",
        "add_to_carts": "BIGINT",
        "purchases": "BIGINT",
        "popularity": "DOUBLE",
        "first_at": "TIMESTAMP",
        "last_at": "TIMESTAMP",
        "as_of": "TIMESTAMP",
    },
)
VISITOR_FEATURES = Table(
    "visitor_features",
    "build_features",
    {
        "batch": "BIGINT",
        "visitor_id": "STRING",
        "is_bot": "BOOLEAN",
        "events": "BIGINT",
        "page_views": "BIGINT",
        "items": "BIGINT",
        "add_to_carts": "BIGINT",
        "purchases": "BIGINT",
        "device_type": "STRING",
        "first_at": "TIMESTAMP",
        "last_at": "TIMESTAMP",
        "recency_days": "DOUBLE",
        "as_of": "TIMESTAMP",
    },
)
EVALUATIONS = Table(
    "evaluations",
    "evaluate_recommender",
    {
        "batch": "BIGINT",
        "role": "STRING",
        "algorithm": "STRING",
        "model_version": "STRING",
        "segment": "STRING",
        "k": "INT",
        "n_users": "BIGINT",
        "recall": "DOUBLE",
        "recall_interval": "ARRAY<DOUBLE>",
        "ndcg": "DOUBLE",
        "ndcg_interval": "ARRAY<DOUBLE>",
        "ndcg_over_baseline": "DOUBLE",
        "ndcg_over_baseline_interval": "ARRAY<DOUBLE>",
        "map": "DOUBLE",
        "map_interval": "ARRAY<DOUBLE>",
        "mrr": "DOUBLE",
        "mrr_interval": "ARRAY<DOUBLE>",
        "coverage": "DOUBLE",
        "novelty_bits": "DOUBLE",
        "split_at": "TIMESTAMP",
    },
)
RECOMMENDATIONS = Table(
    "recommendations",
    "recommend_items",
    {
        "batch": "BIGINT",
        "visitor_id": "STRING",
        "rank": "INT",
        "item_id": "STRING",
        "score": "DOUBLE",
        "source": "STRING",
    },
)
SIMILAR_ITEMS = Table(
    "similar_items",
    "recommend_items",
    {"batch": "BIGINT", "item_id": "STRING", "rank": "INT", "similar_item_id": "STRING", "score": "DOUBLE"},
)
POPULAR_ITEMS = Table(
    "popular_items",
    "recommend_items",
    {"batch": "BIGINT", "rank": "INT", "item_id": "STRING", "score": "DOUBLE"},
)


def read(spark: SparkSession, table: Table) -> DataFrame:
    """All rows. Raises MissingTable."""
    if not spark.catalog.tableExists(table.full_name):
        raise MissingTable(table.full_name, table.job)
    return spark.table(table.full_name)


def read_batch(spark: SparkSession, table: Table, batch: int) -> DataFrame:
    """The rows of one batch, with all columns. Raises MissingTable."""
    return read(spark, table).filter(F.col("batch") == batch)


def create(spark: SparkSession, table: Table) -> None:
    """Creates the table where it is missing, and adds columns that are new in this version."""
    if not spark.catalog.tableExists(table.full_name):
        columns = ", ".join(f"`{name}` {type_}" for name, type_ in table.columns.items())
        spark.sql(f"CREATE NAMESPACE IF NOT EXISTS {NAMESPACE}")
        spark.sql(
            f"CREATE TABLE IF NOT EXISTS {table.full_name} ({columns}) USING iceberg"
            f" PARTITIONED BY ({table.partitioned_by}) TBLPROPERTIES ('format-version' = '2',"
            " 'write.metadata.delete-after-commit.enabled' = 'true')"
        )
        if table.ordered_by:
            spark.sql(
                f"ALTER TABLE {table.full_name} WRITE DISTRIBUTED BY PARTITION LOCALLY ORDERED BY {table.ordered_by}"
            )
        return
    present = set(spark.table(table.full_name).columns)
    added = ", ".join(f"`{name}` {type_}" for name, type_ in table.columns.items() if name not in present)
    if added:
        spark.sql(f"ALTER TABLE {table.full_name} ADD COLUMNS ({added})")


def overwrite(spark: SparkSession, table: Table, rows: DataFrame, batch: int) -> None:
    """Replaces the rows of `batch` in one commit; no rows clear it. `rows` has the table's columns but `batch`."""
    frame = rows.withColumn("batch", F.lit(batch).cast("bigint")).select(*table.columns)
    _commit(
        spark,
        table,
        lambda: frame.writeTo(table.full_name).overwrite(F.col("batch") == batch),
    )


def replace_matching(spark: SparkSession, table: Table, rows: DataFrame, key: str) -> None:
    """One commit: rows with `gone` are deleted by `key`, the others updated or inserted."""
    frame = rows.select(*table.columns, "gone").alias("new")
    _commit(
        spark,
        table,
        lambda: (
            frame.mergeInto(table.full_name, F.expr(f"{table.full_name}.{key} = new.{key}"))
            .whenMatched(F.col("new.gone"))
            .delete()
            .whenMatched()
            .updateAll()
            .whenNotMatched(~F.col("new.gone"))
            .insertAll()
            .merge()
        ),
    )


def _commit(spark: SparkSession, table: Table, write: Callable[[], None]) -> None:
    """A commit that lost against another writer is made anew; its conflict is never ignored."""

    @retry(
        retry=retry_if_exception(_is_conflict),
        stop=stop_after_attempt(5),
        wait=wait_random_exponential(multiplier=0.5, max=10),
        reraise=True,
    )
    def attempt() -> None:
        create(spark, table)
        write()

    attempt()


def _is_conflict(error: BaseException) -> bool:
    """By the names of Iceberg's exceptions, which come wrapped in whatever Spark makes of them."""
    return any(name in str(error) for name in _CONFLICTS)
