"""Upkeep of tables: fewer files, no old snapshots but those that were learnt from, no orphans; no row changes."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from pyspark.sql import functions as F

from processing import iceberg, publish, snapshots, upkeep
from processing.tables import POPULAR_ITEMS

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

RANKED = "rank INT, item_id STRING, score DOUBLE"


def ranked(spark: SparkSession, count: int) -> DataFrame:
    return spark.createDataFrame([(rank, f"/{rank}", 1.0) for rank in range(count)], RANKED)


@pytest.fixture
def written(spark: SparkSession, tables_dropped: None) -> list[int]:
    """Two batches of the table, written three times each; its snapshots, the oldest first."""
    found = []
    for count in range(1, 7):
        publish.overwrite(spark, POPULAR_ITEMS, ranked(spark, count), count % 2, lambda _: None)
        found.append(snapshots.newest(spark, POPULAR_ITEMS))
    return found


def rows(spark: SparkSession) -> list[str]:
    return sorted(map(str, iceberg.read(spark, POPULAR_ITEMS).collect()))


def files(spark: SparkSession) -> list[Path]:
    [location] = [
        row["data_type"]
        for row in spark.sql(f"DESCRIBE EXTENDED {POPULAR_ITEMS.full_name}").collect()
        if row["col_name"] == "Location"
    ]
    return sorted(Path(location.removeprefix("file:")).rglob("data/**/*.parquet"))


def test_old_snapshots_go_with_their_files_but_not_what_a_model_learnt_from(
    spark: SparkSession, written: list[int]
) -> None:
    snapshots.tag(spark, POPULAR_ITEMS, "learnt", written[1])
    before, then = rows(spark), snapshots.read(spark, POPULAR_ITEMS, written[1], 9).count()
    kept = upkeep.expire(spark, POPULAR_ITEMS, datetime.now(UTC) - timedelta(days=1))
    assert kept == {"expired_files": 0}
    gone = upkeep.expire(spark, POPULAR_ITEMS, datetime.now(UTC) + timedelta(minutes=1))
    assert gone["expired_files"] > 0
    left = {row[0] for row in spark.sql(f"SELECT snapshot_id FROM {POPULAR_ITEMS.full_name}.snapshots").collect()}
    assert left == {written[1], written[-1]}
    assert rows(spark) == before
    assert snapshots.read(spark, POPULAR_ITEMS, written[1], 9).count() == then


def test_small_files_of_a_batch_become_one(spark: SparkSession, tables_dropped: None) -> None:
    iceberg.create(spark, POPULAR_ITEMS)
    for count in range(1, 7):
        rows_of_one = ranked(spark, count).filter(F.col("rank") == count - 1).withColumn("batch", F.lit(7))
        rows_of_one.select(*POPULAR_ITEMS.columns).writeTo(POPULAR_ITEMS.full_name).append()
    before = rows(spark)
    assert iceberg.read_batch(spark, POPULAR_ITEMS, 7).count() == 6
    assert upkeep.compact(spark, POPULAR_ITEMS) == {"files": 6, "became": 1}
    assert rows(spark) == before
    assert upkeep.compact(spark, POPULAR_ITEMS) == {"files": 0, "became": 0}


def test_what_a_writer_left_that_died_is_deleted_after_days(spark: SparkSession, written: list[int]) -> None:
    [first, *_] = files(spark)
    orphan, young = first.with_name("00000-orphan.parquet"), first.with_name("00001-young.parquet")
    for file in (orphan, young):
        file.write_bytes(b"half a file")
    old = (datetime.now(UTC) - timedelta(days=4)).timestamp()
    os.utime(orphan, (old, old))
    before = rows(spark)
    assert upkeep.remove_orphans(spark, POPULAR_ITEMS, datetime.now(UTC) - timedelta(days=3)) == {"orphans": 1}
    assert not orphan.exists() and young.exists()
    assert rows(spark) == before
