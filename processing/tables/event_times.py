"""Times of events: the newest, the recent ones, and the moment by which a share of them had happened."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

ODD_CLOCK = "odd_clock"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_STEPS = 100_000


def newest(events: DataFrame, batch: int | None = None) -> datetime | None:
    """The time of the newest event up to `batch`, their last one, which later code calls `as_of`; None without events.

    An event counts as of when it happened, but as of no later than it was received, so clients whose clocks run ahead
    move nobody's time; flagged ones do not count at all. That batch is read first: of the others, files without any
    newer event are not opened.
    """
    trusted = ~F.array_contains(F.coalesce("flags", F.array().cast("array<string>")), ODD_CLOCK)
    last = events.agg(F.max("batch")).collect()[0][0] if batch is None else batch

    def latest(rows: DataFrame) -> datetime | None:
        millis = rows.filter(trusted).agg(F.unix_millis(F.max(F.least("occurred_at", "received_at")))).collect()[0][0]
        return None if millis is None else from_millis(millis)

    of_last, others = latest(events.filter(F.col("batch") == last)), events.filter(F.col("batch") < last)
    if of_last is None and batch is not None:
        return newest(events)  # an idle batch: the last one that has events
    if of_last is not None:
        others = others.filter((F.col("occurred_at") > F.lit(of_last)) & (F.col("received_at") > F.lit(of_last)))
    return max(filter(None, (of_last, latest(others))), default=None)


def recent(events: DataFrame, as_of: datetime, days: int) -> DataFrame:
    """The events that are not older than so many days at `as_of`, nor, by a clock that runs ahead, newer."""
    occurred_at = F.col("occurred_at")
    return events.filter((occurred_at > F.lit(as_of - timedelta(days=days))) & (occurred_at <= F.lit(as_of)))


def newest_days(rows: DataFrame, days: int) -> DataFrame:
    """Those of `rows`, all of trusted clocks, that are of the last `days` before their newest."""
    [(newest_millis,)] = rows.agg(F.unix_millis(F.max("occurred_at"))).collect()
    return rows if newest_millis is None else recent(rows, from_millis(newest_millis), days)


def lately(events: DataFrame, days: int, batch: int | None = None) -> tuple[DataFrame, datetime | None]:
    """The `recent` ones of all `events` up to `batch` as of the newest, and its time; None without events."""
    as_of = newest(events, batch)
    return (events if as_of is None else recent(events, as_of, days)), as_of


def moment(rows: DataFrame, time: Column, share: float) -> int | None:
    """The quantile `share` of `time`, in milliseconds since 1970; None without rows.

    An exact percentile keeps each value that is different, so times are counted in as many steps as memory has room
    for, and not in milliseconds.
    """
    [(first, last)] = rows.agg(F.min(time), F.max(time)).collect()
    if first is None:
        return None
    step = max(1, (last - first) // _STEPS)
    steps: float = rows.agg(F.percentile(F.floor((time - F.lit(first)) / step), share)).collect()[0][0]
    return int(first + steps * step)


def from_millis(millis: int) -> datetime:
    """Milliseconds since 1970 as an aware datetime: a naive one would mean the machine's zone to Spark."""
    return _EPOCH + timedelta(milliseconds=millis)
