"""What is wrong with a table's rows is found, shown, and not published."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from infra.settings import Settings
from processing.errors import BadRows, WrongSchema
from processing.runtime.job import Job
from processing.tables import feature_schemas, iceberg, model_schemas, publish, quality
from storage.batches import cuts
from storage.batches.cuts import Cut
from storage.layout import Layout
from tests.fakes import FakeHdfs
from tests.support.events import NOON, click
from tests.support.spark import Events

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

WEEK = timedelta(days=7)


def popular(spark: SparkSession, *rows: tuple[int | None, str | None, float]) -> DataFrame:
    columns = "rank INT, item_id STRING, score DOUBLE"
    return spark.createDataFrame(list(rows), columns)


def test_each_rule_finds_its_rows_and_shows_them(spark: SparkSession) -> None:
    rows = popular(spark, (0, "/a", 1.0), (0, "/b", 1.0), (-1, "/c", 1.0), (2, None, 1.0), (None, "/d", 1.0))
    found = {one.check: one for one in quality.rows(rows, model_schemas.POPULAR_ITEMS)}
    assert {check: one.rows for check, one in found.items()} == {
        "rank is null": 1,
        "item_id is null": 1,
        "rank is out of [0, ]": 1,
        "key rank is not unique": 1,
    }
    assert found["rank is out of [0, ]"].examples == [{"rank": "-1"}]
    assert found["key rank is not unique"].examples == [{"rank": "0"}]
    assert not quality.rows(popular(spark, (0, "/a", 1.0), (1, "/b", 1.0)), model_schemas.POPULAR_ITEMS)
    assert not quality.rows(popular(spark), model_schemas.POPULAR_ITEMS)


def test_nan_lies_in_no_range(spark: SparkSession, events: Events) -> None:
    rows = spark.createDataFrame([("/a", float("nan"))], "item_id STRING, popularity DOUBLE")
    missing = {name: f"CAST(1 AS {feature_schemas.ITEM_FEATURES.columns[name]})" for name in ("title", "path")}
    whole = rows.selectExpr("*", *[f"{sql} AS {name}" for name, sql in missing.items()], "now() AS as_of")
    assert [one.check for one in quality.rows(whole, feature_schemas.ITEM_FEATURES)] == ["popularity is out of [0, ]"]


@pytest.mark.parametrize("before", [[], ["/a"]], ids=["first", "later"])
def test_what_is_not_approved_is_not_published_and_the_next_try_is(
    before: list[str], spark: SparkSession, tables_dropped: None
) -> None:
    table = model_schemas.POPULAR_ITEMS
    spark.sql(f"DROP TABLE IF EXISTS {table.full_name}")

    def refuse(written: DataFrame) -> None:
        assert written.count() == 2  # what would be published is there to be looked at
        raise ValueError("refused")

    def approve(written: DataFrame) -> None:
        assert {row["item_id"] for row in written.collect()} == {"/c"}

    for item in before:
        publish.overwrite(spark, table, popular(spark, (0, item, 1.0)), 1, lambda written: None)
    for _ in range(2):
        with pytest.raises(ValueError, match="refused"):
            publish.overwrite(spark, table, popular(spark, (0, "/b", 1.0), (0, "/b", 1.0)), 1, refuse)
    assert [row["item_id"] for row in iceberg.read(spark, table).collect()] == before
    publish.overwrite(spark, table, popular(spark, (0, "/c", 1.0)), 1, approve)
    assert [row["item_id"] for row in iceberg.read(spark, table).collect()] == ["/c"]
    assert [row["name"] for row in spark.sql(f"SELECT name FROM {table.full_name}.refs").collect()] == ["main"]


def test_a_writer_who_published_meanwhile_is_not_undone(spark: SparkSession, tables_dropped: None) -> None:
    table, tries = model_schemas.POPULAR_ITEMS, []

    def interrupted(written: DataFrame) -> None:
        tries.append(written.count())
        if len(tries) == 1:
            publish.overwrite(spark, table, popular(spark, (0, "/other", 1.0)), 8, lambda written: None)

    publish.overwrite(spark, table, popular(spark, (0, "/mine", 1.0)), 7, interrupted)
    rows = iceberg.read(spark, table).filter("batch IN (7, 8)").orderBy("batch").collect()
    assert [row["item_id"] for row in rows] == ["/mine", "/other"] and tries == [1, 1]


def test_tables_that_belong_together_are_published_together_or_not(
    spark: SparkSession, tables_dropped: None, tmp_path: Path
) -> None:
    one, other = model_schemas.POPULAR_ITEMS, model_schemas.SIMILAR_ITEMS
    for table in (one, other):
        spark.sql(f"DROP TABLE IF EXISTS {table.full_name}")
    fs, layout = FakeHdfs(), Layout("/clickstream", "clicks")
    this = Job(Settings(home=tmp_path), spark, fs, layout, cuts.take(fs, layout, "first", lambda: {0: 0}, NOON))
    similar = spark.createDataFrame(
        [("/a", 0, "/b", 0.5)], "item_id STRING, rank INT, similar_item_id STRING, score DOUBLE"
    )
    bad = similar.unionByName(similar)  # its key twice
    with pytest.raises(BadRows):
        this.overwrite_together({one: popular(spark, (0, "/a", 1.0)), other: bad})
    assert iceberg.read(spark, one).isEmpty() and iceberg.read(spark, other).isEmpty()
    this.overwrite_together({one: popular(spark, (0, "/a", 1.0)), other: similar})
    assert iceberg.read(spark, one).count() == iceberg.read(spark, other).count() == 1


def test_a_column_of_another_type_is_told(spark: SparkSession, tables_dropped: None) -> None:
    other = iceberg.Table(
        "popular_items", "recommend_items", {**model_schemas.POPULAR_ITEMS.columns, "score": "INT"}, ("rank",)
    )
    spark.sql(f"DROP TABLE IF EXISTS {other.full_name}")
    iceberg.create(spark, other)
    with pytest.raises(WrongSchema, match=r"popular_items: column score is int, this version writes double"):
        iceberg.create(spark, model_schemas.POPULAR_ITEMS)
    spark.sql(f"DROP TABLE {other.full_name}")


def test_the_batches_of_the_same_hours_are_those_of_four_weeks() -> None:
    def cut(number: int, taken_at: datetime) -> Cut:
        return Cut(str(number), number, "clicks", taken_at.isoformat(), {}, {})

    hours = [cut(n, NOON - 5 * WEEK + timedelta(hours=n)) for n in range(1, 5 * 7 * 24 + 1)]
    of_now = quality.same_hours(hours, hours[-1])
    assert of_now == [7 * 24 * week for week in (1, 2, 3, 4)]
    assert quality.same_hours(hours[:3], hours[2]) == []
    two_at_once = [*hours[:-2], cut(hours[-2].number, NOON)]  # as long as the last two together
    assert quality.same_hours(two_at_once, two_at_once[-1]) == [n for week in of_now for n in (week - 1, week)]


def test_a_steady_table_is_not_published_far_smaller_than_in_the_weeks_before(
    spark: SparkSession, tables_dropped: None, tmp_path: Path
) -> None:
    fs, layout, table = FakeHdfs(), Layout("/clickstream", "clicks"), model_schemas.SIMILAR_ITEMS
    cuts.take(fs, layout, "first", lambda: {0: 0}, NOON)
    days = Settings(home=tmp_path).processing.feature_days
    for week in range(4):
        moment = NOON + timedelta(days=days, hours=-1) + week * WEEK
        for n, at in enumerate((moment - timedelta(hours=1), moment)):
            cuts.take(fs, layout, f"{week}-{n}", lambda: {0: 0}, at)

    def publish_rows(week: int, count: int) -> None:
        cut = cuts.get(fs, layout, f"{week}-1")
        this = Job(Settings(home=tmp_path), spark, fs, layout, cut)
        rows = [("/a", n, f"/{n}", 1.0) for n in range(count)]
        types = "item_id STRING, rank INT, similar_item_id STRING, score DOUBLE"
        this.overwrite(table, spark.createDataFrame(rows, types))

    publish_rows(0, 10)  # its windows are not full, an hour before all days are there: a table that still grows
    publish_rows(1, 2_000)
    publish_rows(2, 1_000)
    with pytest.raises(BadRows, match="volume: 30 rows of similar_items, 1,500 in the same hours of 2 weeks before"):
        publish_rows(3, 30)
    assert not iceberg.read_batch(spark, table, 9).count()
    publish_rows(3, 300)


def test_the_usual_volume_is_that_of_the_same_hours_of_weeks_before(events: Events) -> None:
    since, until = NOON - timedelta(hours=1), NOON
    arrivals = [until - WEEK, since - WEEK, until - 2 * WEEK, since - 2 * WEEK + timedelta(minutes=1), until - 3 * WEEK]
    landed = [
        click(message_id=str(n), received_at=int(when.timestamp() * 1000)) for n, when in enumerate(arrivals)
    ]  # the fixture takes received_at for the time of appending
    rows = events(*landed)
    assert quality.usual_volume(rows, since, until, first=since - 2 * WEEK) == [1, 2]
    assert quality.usual_volume(rows, since, until, first=datetime(1990, 1, 1, tzinfo=UTC)) == [1, 2, 1, 0]
    assert quality.usual_volume(rows, since, until, first=NOON) == []
