"""For `clickstream bench jobs`: the sessions of a Parquet file by Spark, alone, as DuckDB makes them beside it.

Arguments: the table of events to export first, the Parquet folder of them, the folder of sessions, the gap in minutes.
Prints {"seconds": …, "sessions": …} of building and writing the sessions, without the export and without Spark's start.
"""

from __future__ import annotations

import json
import sys
import time
from datetime import timedelta

from pyspark.sql import SparkSession

from processing.events import sessions


def main() -> None:
    table, events, target, minutes = sys.argv[1:]
    spark = SparkSession.builder.appName("bench sessions").getOrCreate()
    spark.table(table).write.parquet(events)
    began = time.monotonic()
    sessions.build(spark.read.parquet(events), timedelta(minutes=int(minutes))).write.parquet(target)
    seconds = time.monotonic() - began
    print(json.dumps({"seconds": seconds, "sessions": spark.read.parquet(target).count()}))
    spark.stop()


if __name__ == "__main__":
    main()
