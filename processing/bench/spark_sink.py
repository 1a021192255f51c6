"""Spark as a peer of the sink (`clickstream bench sink`): all of a topic into files, by Structured Streaming.

    spark-submit spark_sink.py BROKERS TOPIC values|columns FORMAT ROOT

values: Kafka's, as they are; columns: JSON read with the contract's schema. Both are compressed by zstandard, as the
sink's files are. Prints a line once everything is committed.
"""

from __future__ import annotations

import sys

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from processing.events.raw import SCHEMA_DDL


def rows(records: DataFrame, what: str) -> DataFrame:
    """What is written of Kafka's records."""
    if what == "values":
        return records.select("value")
    envelope = StructType.fromDDL(SCHEMA_DDL)
    assert isinstance(envelope, StructType)
    event = envelope["event"].dataType
    assert isinstance(event, StructType)
    return records.select(F.from_json(F.col("value").cast("string"), event).alias("event")).select("event.*")


def main() -> None:
    brokers, topic, what, format_, root = sys.argv[1:]
    spark = SparkSession.builder.appName("bench").getOrCreate()
    records = (
        spark.readStream.format("kafka")
        .option("kafka.bootstrap.servers", brokers)
        .option("subscribe", topic)
        .option("startingOffsets", "earliest")
        .load()
    )
    query = (
        rows(records, what)
        .writeStream.format(format_)
        .option("path", f"{root}/files")
        .option("checkpointLocation", f"{root}/checkpoint")
        .option("compression", "zstandard" if what == "values" else "zstd")
        .trigger(availableNow=True)
        .start()
    )
    query.awaitTermination()
    sys.stdout.write("done\n")
    sys.stdout.flush()
    spark.stop()


if __name__ == "__main__":
    main()
