"""From landed records to curated events: validate, deduplicate, mark what is late. DataFrames in, DataFrames out.

`raw` rows are envelopes {partition, offset, appended_at, event} as `raw.read` gives them: times are milliseconds,
not yet timestamps, so that one absurd time is an invalid record and no overflow that ends the job.
Each record has exactly one outcome: curated (reason and winner null), duplicate (winner set) or invalid (reason set).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import reduce
from operator import or_
from typing import Any

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from ingest.event import fields
from ingest.event.codec import SCHEMA
from ingest.event.event import to_millis
from processing.events import placeholder_ids
from processing.tables.schemas import DUPLICATES, INVALID

# Wide enough for any log of clicks; times outside come of a broken clock or unit.
EARLIEST = datetime(1990, 1, 1, tzinfo=UTC)
LATEST = datetime(2100, 1, 1, tzinfo=UTC)

_UUID = "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"
# The payload of the first version, in the order in which every stored hash was made: fixed for ever.
_FIRST = (
    *("event_type", "event_name", "anonymous_id", "user_id", "item_id", "list_id", "position"),
    *("page.url", "page.path", "page.referrer", "page.title"),
    *("propensity", "impression_id", "model_version", "order_id", "value", "currency", "quantity"),
)
_FIRST_MAPS = ("campaign", "experiments", "properties")


def earlier(before: DataFrame, batches: Sequence[int], raw: DataFrame) -> DataFrame:
    """The events of `before` whose ids those of `raw` may have: all of the `batches`, and, as a file may be replayed
    any time later, those of the time of what a run sent."""
    time = F.col("event.occurred_at").cast("bigint")
    replayed = raw.filter(F.col("event.source.run").isNotNull() & _reason().isNull())
    [(first, last)] = replayed.agg(F.min(time), F.max(time)).collect()
    known = F.col("batch").isin(*batches)
    if first is not None:
        known = known | F.col("occurred_at").between(F.timestamp_millis(F.lit(first)), F.timestamp_millis(F.lit(last)))
    return before.filter(known)


def classify(raw: DataFrame, earlier: DataFrame, batch: int) -> DataFrame:
    """`raw` with `reason` (string), `payload_hash` and `winner` {batch, partition, offset, payload_hash}.

    `earlier`: (event_id, batch, partition, offset, payload_hash) of the curated events of the batches to look back at,
    where an event_id may come twice if one looked back less far before. The winner is the lowest (batch, partition,
    offset), so a rerun gives the same.
    """
    here = F.struct(F.lit(batch).cast("bigint").alias("batch"), "partition", "offset", "payload_hash")
    before = F.min(F.struct("batch", "partition", "offset", "payload_hash")).alias("before")
    known = earlier.groupBy(F.col("event_id").alias("key")).agg(before)
    same = Window.partitionBy("key").orderBy("partition", "offset")
    return (
        raw.withColumn("reason", _reason())
        .withColumn("payload_hash", payload_hash())
        # An invalid record has no duplicates: its key is its own place, which is no event id.
        .withColumn(
            "key",
            F.when(F.col("reason").isNull(), F.col("event.event_id")).otherwise(
                F.concat_ws("+", "partition", "offset")
            ),
        )
        .withColumn("first", F.first(here).over(same))
        .join(known, on="key", how="left")
        .withColumn("best", F.coalesce("before", "first"))
        .withColumn("winner", F.when(F.col("best") != here, F.col("best")))
        .select("partition", "offset", "appended_at", "event", "reason", "payload_hash", "winner")
    )


def curated(classified: DataFrame, newest_before: datetime | None, lateness: timedelta) -> DataFrame:
    """Rows of `events` but for `batch`. Late: more than `lateness` older than the newest event of earlier batches.
    Placeholder ids are null, and flagged."""
    behind = F.lit(None).cast("bigint")  # milliseconds; of what is not late: null
    if newest_before is not None:
        age = F.lit(to_millis(newest_before)) - F.col("event.occurred_at")
        behind = F.when(age > lateness // timedelta(milliseconds=1), age)
    real = {name: placeholder_ids.without(F.col(f"event.{name}")) for name in placeholder_ids.IDS}
    flags = F.coalesce("event.flags", F.array().cast("array<string>"))
    is_flagged = reduce(or_, (placeholder_ids.is_placeholder(F.col(f"event.{name}")) for name in placeholder_ids.IDS))
    told = real | {"flags": F.when(is_flagged, F.array_append(flags, placeholder_ids.FLAG)).otherwise(flags)}
    return classified.filter(F.col("reason").isNull() & F.col("winner").isNull()).select(
        "partition",
        "offset",
        F.timestamp_millis("appended_at").alias("appended_at"),
        *[told[name].alias(name) if name in told else _field(name) for name in fields.KINDS],
        F.coalesce(*real.values()).alias("visitor_id"),
        behind.isNotNull().alias("late"),
        F.floor(behind / 1000).alias("lateness_seconds"),
        "payload_hash",
    )


def duplicates(classified: DataFrame) -> DataFrame:
    """Rows of `duplicates` but for `batch`: the losers with their winners; unknown `same_payload` is null."""
    return (
        classified.filter(F.col("reason").isNull() & F.col("winner").isNotNull())
        .withColumn("appended_at", F.timestamp_millis("appended_at"))
        .withColumn("event_id", F.col("event.event_id"))
        .withColumns({f"winner_{name}": F.col(f"winner.{name}") for name in ("batch", "partition", "offset")})
        .withColumn("same_payload", F.col("payload_hash") == F.col("winner.payload_hash"))
        .select(*[name for name in DUPLICATES.columns if name != "batch"])
    )


def invalid(classified: DataFrame) -> DataFrame:
    """Rows of `invalid` but for `batch`: the whole event as JSON beside the reason."""
    return (
        classified.filter(F.col("reason").isNotNull())
        .withColumn("appended_at", F.timestamp_millis("appended_at"))
        .withColumn("event", F.to_json("event"))
        .select(*[name for name in INVALID.columns if name != "batch"])
    )


def _field(name: str) -> Column:
    value = F.col(f"event.{name}")
    return (F.timestamp_millis(value) if name in fields.TIMES else value).alias(name)


def payload_hash(schema: Mapping[str, Any] = SCHEMA) -> Column:
    """A hash of what the client said in the column `event`, whose schema this is; see `fields.said`.

    A field that a later version adds counts only where it says something, so events without it keep the hash that they
    had before. The order of a map's entries does not count.
    """
    first = [F.col(f"event.{name}") for name in _FIRST]
    maps = [F.array_sort(F.map_entries(f"event.{name}")) for name in _FIRST_MAPS]
    added = [_named(path, field) for path, field in fields.said(schema).items() if path not in (*_FIRST, *_FIRST_MAPS)]
    # The hash passes over nulls, so which of the first fields are null is hashed too, and with an added one its name.
    return F.xxhash64(*first, *maps, F.array(*map(F.isnull, first)), *added)


def _named(path: str, field: Mapping[str, Any]) -> Column:
    """{name, value} of a field, null where it has its default."""
    value, default = F.col(f"event.{path}"), field.get("default")
    if fields.kind(field) in ("map", "array"):
        is_said = F.size(value) > 0
        value = F.array_sort(F.map_entries(value)) if fields.kind(field) == "map" else value
    else:
        is_said = value.isNotNull() if default is None else value != F.lit(default)
    return F.when(is_said, F.struct(F.lit(path).alias("name"), value.alias("value")))


def _reason() -> Column:
    """Why a record is no event; null when it is one."""

    def sane(name: str) -> Column:
        return F.col(f"event.{name}").between(to_millis(EARLIEST), to_millis(LATEST))

    value = F.col("event.value")
    return (
        F.when(F.col("event").isNull(), "event is missing")
        .when(~F.coalesce(F.col("event.event_id").rlike(_UUID), F.lit(False)), "event_id is no uuid")
        .when(F.coalesce(F.col("event.write_key"), F.lit("")) == "", "write_key is missing")
        .when(~F.coalesce(sane("occurred_at"), F.lit(False)), "occurred_at is out of bounds")
        .when(~F.coalesce(sane("received_at"), F.lit(False)), "received_at is out of bounds")
        .when(F.isnan(value) | (F.abs(value) == float("inf")), "value is not finite")
        .when(~F.col("event.propensity").between(0, 1) | F.isnan("event.propensity"), "propensity is no probability")
    )
