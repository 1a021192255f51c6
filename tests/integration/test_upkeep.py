"""Upkeep of tables: fewer files, no old snapshots but those that were learnt from, no orphans; no row changes."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest
from pyspark.sql import functions as F

from infra.settings import Settings
from processing.jobs import maintain_tables
from processing.runtime.job import Job
from processing.runtime.registry import Registry
from processing.tables import iceberg, maintenance, publish, snapshots
from processing.tables.iceberg import Table
from processing.tables.model_schemas import POPULAR_ITEMS
from storage import exports
from storage.batches import cuts
from storage.layout import Layout
from tests.fakes import FakeHdfs

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

RANKED = "rank INT, item_id STRING, score DOUBLE"
LASTING = replace(POPULAR_ITEMS, name="lasting", partitioned_by=iceberg.WEEKLY)  # as tables that keep all batches


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
    kept = maintenance.expire(spark, POPULAR_ITEMS, datetime.now(UTC) - timedelta(days=1))
    assert kept == {"expired_files": 0}
    gone = maintenance.expire(spark, POPULAR_ITEMS, datetime.now(UTC) + timedelta(minutes=1))
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
    assert maintenance.compact(spark, POPULAR_ITEMS) == {"files": 6, "became": 1}
    assert rows(spark) == before
    assert maintenance.compact(spark, POPULAR_ITEMS) == {"files": 0, "became": 0}


def test_what_a_writer_left_that_died_is_deleted_after_days(spark: SparkSession, written: list[int]) -> None:
    [first, *_] = files(spark)
    orphan, young = first.with_name("00000-orphan.parquet"), first.with_name("00001-young.parquet")
    for file in (orphan, young):
        file.write_bytes(b"half a file")
    old = (datetime.now(UTC) - timedelta(days=4)).timestamp()
    os.utime(orphan, (old, old))
    before = rows(spark)
    assert maintenance.remove_orphans(spark, POPULAR_ITEMS, datetime.now(UTC) - timedelta(days=3)) == {"orphans": 1}
    assert not orphan.exists() and young.exists()
    assert rows(spark) == before


def read(spark: SparkSession, table: Table, batch: int) -> tuple[int, int]:
    """The rows of a batch, and the files that are opened for them."""
    jvm = cast(Any, spark._jvm)
    of_batch = jvm.org.apache.iceberg.expressions.Expressions.equal("batch", batch)
    planned, files = iceberg.load(spark, table).newScan().filter(of_batch).planFiles().iterator(), 0
    while planned.hasNext():
        planned.next()
        files += 1
    return iceberg.read_batch(spark, table, batch).count(), files


def test_the_files_of_a_week_become_one_of_which_a_batch_is_still_replaced(
    spark: SparkSession, tables_dropped: None
) -> None:
    """Batches 165 to 170 are of two weeks."""
    for batch in range(163, 171):
        publish.overwrite(spark, LASTING, ranked(spark, batch - 160), batch, lambda _: None)
    before = iceberg.read(spark, LASTING).count()
    assert maintenance.compact(spark, LASTING) == {"files": 5, "became": 1}
    assert iceberg.read(spark, LASTING).count() == before
    assert read(spark, LASTING, 165) == (5, 1)
    assert read(spark, LASTING, 170) == (10, 1)
    publish.overwrite(spark, LASTING, ranked(spark, 2), 165, lambda _: None)
    publish.overwrite(spark, LASTING, ranked(spark, 1), 165, lambda _: None)  # beside the others' joined file
    assert read(spark, LASTING, 165)[0] == 1
    assert iceberg.read(spark, LASTING).count() == before - 5 + 1


def test_a_table_partitioned_as_of_old_goes_on_and_is_rewritten(spark: SparkSession, tables_dropped: None) -> None:
    table = replace(LASTING, name="from_before")
    for batch in (1, 2):
        publish.overwrite(spark, replace(table, partitioned_by="batch"), ranked(spark, batch), batch, lambda _: None)
    publish.overwrite(spark, table, ranked(spark, 3), 3, lambda _: None)
    publish.overwrite(spark, table, ranked(spark, 4), 1, lambda _: None)
    assert [read(spark, table, batch) for batch in (1, 2, 3)] == [(4, 1), (2, 1), (3, 1)]
    assert maintenance.compact(spark, table)["files"] == 3
    assert maintenance.compact(spark, table) == {"files": 0, "became": 0}
    publish.overwrite(spark, table, ranked(spark, 5), 2, lambda _: None)
    assert [read(spark, table, batch)[0] for batch in (1, 2, 3)] == [4, 5, 3]


def test_what_is_past_its_time_goes_but_not_what_is_in_force_or_was_before(
    spark: SparkSession, tables_dropped: None, tmp_path: Path
) -> None:
    """Batch 3 was refused; 7 is the newest, refused as well. Each other was champion in its turn."""
    spark.sql(f"DROP TABLE IF EXISTS {POPULAR_ITEMS.full_name} PURGE")
    settings, fs, layout = Settings(home=tmp_path), FakeHdfs(), Layout("/clickstream", "clicks")
    registry, now = Registry(settings), datetime.now(UTC) + timedelta(days=40)
    ages = {1: 60, 2: 55, 3: 50, 4: 45, 5: 40, 6: 35, 7: 0}  # batch -> days
    recipes = {1: "als", 2: "als", 3: "popular", 4: "ease", 5: "ease", 6: "ease", 7: "popular"}
    for batch, days in ages.items():
        cuts.take(fs, layout, str(batch), lambda: {0: 0}, now - timedelta(days=days))
        publish.overwrite(spark, POPULAR_ITEMS, ranked(spark, batch), batch, lambda _: None)
        snapshots.tag_trained(spark, POPULAR_ITEMS, batch, snapshots.newest(spark, POPULAR_ITEMS))
        fs.write_atomically(f"/clickstream/models/recommender/batch={batch}/final/model", b"")
        report = json.dumps({"batch_number": batch}).encode()
        fs.write_atomically(exports.report("/clickstream", f"m-{batch}"), report)
        facts = {"recipe": {"algorithm": recipes[batch]}}
        version = registry.register(registry.run(f"m-{batch}", {"batch": str(batch)}), f"m-{batch}", batch, "x", facts)
        registry.decided(version, {"promoted": recipes[batch] != "popular"})
    exports.publish_current(fs, "/clickstream", "m-3")
    gone = maintain_tables.work(Job(settings, spark, fs, layout, cuts.get(fs, layout, "7")))["gone"]
    refs = f"SELECT name FROM {POPULAR_ITEMS.full_name}.refs WHERE type = 'TAG' ORDER BY name"
    assert [row[0] for row in spark.sql(refs).collect()] == ["trained-2", "trained-5", "trained-6", "trained-7"]
    assert [row[0] for row in iceberg.read(spark, POPULAR_ITEMS).select("batch").distinct().collect()] == [7]
    assert [version.name for version in registry.versions()] == ["m-7", "m-6", "m-5", "m-2"]
    models = {file.split("/")[-3] for file in fs.files if file.endswith("/final/model")}
    assert models == {"batch=2", "batch=5", "batch=6", "batch=7"}
    shown = {file.split("/v=")[1] for file in fs.files if "/v=" in file}
    assert shown == {f"m-{batch}/report.json" for batch in (2, 3, 5, 6, 7)}
    assert gone == {
        "batches": 6,
        "checkpoints": 0,
        "unfinished_exports": 0,
        "tags": 3,
        "exports": 2,
        "models": 3,
        "versions": 3,
        "runs": 3,
    }
