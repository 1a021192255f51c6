"""Runs the work of all jobs once, on a few rows in a local folder, while Java records which classes it loads."""

from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from processing.algorithms import als
from processing.events import sessions
from processing.tables import event_times, iceberg, publish, quality
from processing.tables.schemas import EVENTS, SESSIONS

_KNOWN = {
    "batch": "1",
    "event_id": "uuid()",
    "event_type": "'page_view'",
    "visitor_id": "concat('v', id % 20)",
    "item_id": "concat('/', id % 7)",
    "occurred_at": "timestamp_seconds(1431857100 + 40 * id)",
}


def rehearse(spark: SparkSession, folder: str) -> None:
    """Reads what landed, publishes it, merges sessions, trains and keeps a model."""
    columns = [f"CAST({_KNOWN.get(name, 'NULL')} AS {type_}) AS {name}" for name, type_ in EVENTS.columns.items()]
    spark.range(200).selectExpr(*columns).write.format("avro").save(f"{folder}/landed")
    spark.sparkContext.setCheckpointDir(f"{folder}/checkpoints")
    landed = spark.read.format("avro").load(f"{folder}/landed")
    publish.overwrite(spark, EVENTS, landed.select(*EVENTS.columns).checkpoint(), 1, _approve)
    events = iceberg.read_batch(spark, EVENTS, 1).persist()
    built = sessions.build(events, timedelta(minutes=30)).withColumn("person_id", F.col("visitor_id"))
    publish.replace_matching(spark, SESSIONS, sessions.replacement(built, built.limit(0)), "rehearsal", _approve)
    event_times.newest(events)
    weighed = events.groupBy("visitor_id", "item_id").agg(F.count("*").cast("double").alias("weight"))
    model = als.fit(weighed, {"iterations": 2})
    if model is not None:
        model.save(f"{folder}/model")
        als.load(spark, {}, f"{folder}/model").top(events.select("visitor_id").distinct(), weighed, 3).collect()


def _approve(written: DataFrame) -> None:
    quality.rows(written, EVENTS if "event_id" in written.columns else SESSIONS)


def main(folder: str) -> None:
    catalog = f"spark.sql.catalog.{iceberg.CATALOG}"
    logs = Path(folder) / "logs"
    logs.mkdir()
    options: dict[str, bool | float | int | str | None] = {
        catalog: "org.apache.iceberg.spark.SparkCatalog",
        f"{catalog}.type": "hadoop",
        f"{catalog}.warehouse": f"file://{folder}/warehouse",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.host": "127.0.0.1",
        "spark.eventLog.compress": "true",
        "spark.eventLog.dir": f"file://{logs}",
        "spark.eventLog.enabled": "true",
        "spark.eventLog.rolling.enabled": "true",
        "spark.sql.extensions": "org.apache.iceberg.spark.extensions.IcebergSparkSessionExtensions",
        "spark.sql.shuffle.partitions": "2",
        "spark.sql.warehouse.dir": f"{folder}/hive",
        "spark.ui.enabled": "false",
    }
    spark = SparkSession.builder.appName("rehearsal").config(map=options).getOrCreate()
    rehearse(spark, folder)
    spark.stop()


if __name__ == "__main__":
    main(sys.argv[1])
