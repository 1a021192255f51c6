"""The partitions that rows lie in: conditions by which a read or a merge leaves the files of all others closed.

They name days, buckets and batches, never an id: Spark keeps its queries in logs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import date, timedelta
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from processing.tables.iceberg import CATALOG, Table

NOTHING = "false"
_TRANSFORM = re.compile(r"(?P<name>\w+)\((?:(?P<width>\d+), )?(?P<column>\w+)\)")
_DAY = timedelta(days=1)


def condition(rows: DataFrame, table: Table) -> str:
    """A template of SQL that holds of all rows of `table` in the partitions of these `rows`, NOTHING where there are
    none; to be formatted with what its column is qualified by, or ""."""
    found = _TRANSFORM.fullmatch(table.partitioned_by)
    if found and found["name"] == "days":
        days = _distinct(rows, f"to_date({found['column']})")
        return between(f"{{0}}{found['column']}", f"{{0}}{found['column']}", ((day, day) for day in days))
    if found and found["name"] == "bucket":
        bucket = f"{CATALOG}.system.bucket({found['width']}, {{0}}{found['column']})"
        return _is_one_of(bucket, _distinct(rows, bucket.format("")))
    return _is_one_of("{0}batch", _distinct(rows, "batch"))


def between(begin: str, end: str, spans: Iterable[tuple[date, date]]) -> str:
    """SQL: from `begin` to `end` it touches one of these spans of days."""
    parts = [f"({end} >= TIMESTAMP '{first}' AND {begin} < TIMESTAMP '{last + _DAY}')" for first, last in merged(spans)]
    return f"({' OR '.join(parts)})" if parts else NOTHING


def merged(spans: Iterable[tuple[date, date]]) -> list[tuple[date, date]]:
    """Spans of days, both ends included, in order; those that meet or follow each other are one."""
    found: list[tuple[date, date]] = []
    for first, last in sorted(spans):
        if found and first <= found[-1][1] + _DAY:
            found[-1] = found[-1][0], max(last, found[-1][1])
        else:
            found.append((first, last))
    return found


def _distinct(rows: DataFrame, value: str) -> list[Any]:
    return sorted(row[0] for row in rows.select(F.expr(value)).distinct().collect())


def _is_one_of(value: str, of: Iterable[object]) -> str:
    listed = ", ".join(map(str, of))
    return f"{value} IN ({listed})" if listed else NOTHING
