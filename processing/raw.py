"""Landed files as rows: envelopes read with this version's event schema, whatever version wrote them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from ingest.codec import SCHEMA
from processing.tables import EVENTS
from storage.containers import event_envelope

_EVENT_FIELDS = ", ".join(
    f"{field['name']}: {EVENTS.columns[field['name']].replace('TIMESTAMP', 'BIGINT')}" for field in SCHEMA["fields"]
)
# The same in Spark's words, for a batch without files.
SCHEMA_DDL = f"partition INT, offset BIGINT, appended_at BIGINT, event STRUCT<{_EVENT_FIELDS}>"


def read(spark: SparkSession, paths: Sequence[str], starts: Mapping[int, int], ends: Mapping[int, int]) -> DataFrame:
    """Envelopes {partition, offset, appended_at, event} with starts[p] <= offset < ends[p]; times are milliseconds.

    `paths` are full URLs of Avro containers; none gives no rows. Files may hold offsets beyond the batch's.
    """
    if paths:
        schema = json.dumps(_without_logical_types(event_envelope(SCHEMA)))
        rows = spark.read.format("avro").option("avroSchema", schema).load(list(paths))
    else:
        rows = spark.createDataFrame([], SCHEMA_DDL)
    return rows.filter(_within(starts, ends)).select("partition", "offset", "appended_at", "event")


def _without_logical_types(schema: Any) -> Any:
    """Times stay integers: Spark would fail the whole job on one that overflows a timestamp."""
    if isinstance(schema, dict):
        return {key: _without_logical_types(value) for key, value in schema.items() if key != "logicalType"}
    return [_without_logical_types(part) for part in schema] if isinstance(schema, list) else schema


def _within(starts: Mapping[int, int], ends: Mapping[int, int]) -> Column:
    """A partition that is not among `ends` is not in the batch; one new since the last cut starts at 0."""
    condition = F.lit(False)
    for partition, end in sorted(ends.items()):
        offsets = (F.col("offset") >= starts.get(partition, 0)) & (F.col("offset") < end)
        condition = condition | ((F.col("partition") == partition) & offsets)
    return condition
