"""Landed files as rows: envelopes read with this version's event schema, whatever version wrote them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Any

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from ingest.event.codec import SCHEMA, without_logical_types
from processing.tables.schemas import EVENTS
from storage.formats import FORMATS
from storage.formats.envelope import event_envelope
from storage.formats.format import Format

_EVENT_FIELDS = ", ".join(
    f"{field['name']}: {EVENTS.columns[field['name']].replace('TIMESTAMP', 'BIGINT')}" for field in SCHEMA["fields"]
)
# The same in Spark's words, for a batch without files.
EVENT_DDL = f"STRUCT<{_EVENT_FIELDS}>"
SCHEMA_DDL = f"partition INT, offset BIGINT, appended_at BIGINT, event {EVENT_DDL}"


def read(spark: SparkSession, paths: Sequence[str], starts: Mapping[int, int], ends: Mapping[int, int]) -> DataFrame:
    """Envelopes {partition, offset, appended_at, event} with starts[p] <= offset < ends[p]; times are milliseconds.

    `paths` are full URLs of landed files of any format; none gives no rows. Files may hold offsets beyond the batch's.
    """
    by_suffix: dict[str, list[str]] = {}
    for path in paths:
        by_suffix.setdefault(path.rsplit(".", 1)[-1], []).append(path)
    landed = [_load(spark, FORMATS[suffix], some) for suffix, some in sorted(by_suffix.items())]
    rows = reduce(DataFrame.unionByName, landed) if landed else spark.createDataFrame([], SCHEMA_DDL)
    return rows.filter(_within(starts, ends)).select("partition", "offset", "appended_at", "event")


def _load(spark: SparkSession, format_: Format, paths: list[str]) -> DataFrame:
    """All rows of files of one format."""
    reader = spark.read.format(format_.spark_source)
    if not format_.columnar:
        return reader.option("avroSchema", json.dumps(without_logical_types(event_envelope(SCHEMA)))).load(paths)
    # By this schema times stay integers here too: Spark would fail the whole job on one that overflows a timestamp.
    return reader.schema(SCHEMA_DDL).load(paths).withColumn("event", _resolved("event", SCHEMA))


def _resolved(path: str, record: Mapping[str, Any]) -> Column:
    """A record as Avro would read what another version wrote: with defaults for what that lacks."""
    value = F.col(path)
    for field in record["fields"]:
        name, type_ = field["name"], field["type"]
        inner = F.col(f"{path}.{name}")
        kind = type_["type"] if isinstance(type_, dict) else type_
        if kind == "record":
            value = value.withField(name, _resolved(f"{path}.{name}", type_))
        elif kind == "enum" and "default" in type_:
            value = value.withField(name, F.when(inner.isin(type_["symbols"]), inner).otherwise(type_["default"]))
        elif isinstance(kind, str) and field.get("default") is not None:  # a union may hold a null that was meant
            value = value.withField(name, F.coalesce(inner, _literal(kind, field["default"])))
    return value


def _literal(kind: str, default: Any) -> Column:
    return F.create_map() if kind == "map" else F.array() if kind == "array" else F.lit(default)


def _within(starts: Mapping[int, int], ends: Mapping[int, int]) -> Column:
    """A partition that is not among `ends` is not in the batch; one new since the last cut starts at 0."""
    condition = F.lit(False)
    for partition, end in sorted(ends.items()):
        offsets = (F.col("offset") >= starts.get(partition, 0)) & (F.col("offset") < end)
        condition = condition | ((F.col("partition") == partition) & offsets)
    return condition
