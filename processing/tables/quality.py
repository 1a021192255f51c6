"""Rules that a table's rows must follow before they are published. DataFrames in, findings out; nothing is repaired.

Of every table: keys are unique and not null, required columns are not null, numbers lie in their ranges. Of events:
the batch is no more than `volume_factor` times as large, or as small, as those that arrived in the same hours of the
weeks before were on average; and its newest record is not older than `freshness_hours` at the cut. Of tables that are
`steady`: the same of their rows. Nothing else is as fresh as its events, so it is not asked again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Any

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from processing.tables.iceberg import Table
from storage.batches.cuts import Cut

EXAMPLES = 20  # rows that a finding shows
WEEKS = 4
MEANINGFUL = 100  # events
_WEEK = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Finding:
    """A check that failed: so many `rows` are wrong, some are `examples`; 0 where it is about the whole."""

    check: str
    rows: int = 0
    examples: list[dict[str, Any]] = field(default_factory=list)

    def __str__(self) -> str:
        return f"{self.check} ({self.rows:,} rows)" if self.rows else self.check

    def facts(self) -> dict[str, Any]:
        return asdict(self)


def rows(frame: DataFrame, table: Table) -> list[Finding]:
    """The table's own rules on rows of one batch, or on a whole table without batches."""
    wrong = _conditions(table)
    extra = F.count("*") - F.count_distinct(F.struct(*table.key))
    counts = frame.agg(extra.alias("twice"), *[F.count_if(bad).alias(check) for check, bad in wrong.items()])
    [found] = counts.collect()
    findings = [
        Finding(check, found[check], _examples(frame.filter(bad), table))
        for check, bad in wrong.items()
        if found[check]
    ]
    if found["twice"]:
        repeated = frame.groupBy(*table.key).count().filter(F.col("count") > 1)
        findings.append(
            Finding(f"key {', '.join(table.key)} is not unique", found["twice"], _examples(repeated, table))
        )
    return findings


def usual_volume(earlier: DataFrame, since: datetime, until: datetime, first: datetime) -> list[int]:
    """How many of the `earlier` events arrived after `since` and not after `until`, but 1 to 4 weeks before: a number
    for each week, none for those in which the platform, which began at `first`, was not there yet."""
    weeks = [week * _WEEK for week in range(1, WEEKS + 1) if since - week * _WEEK >= first]
    if not weeks:
        return []
    arrived = F.col("appended_at")
    counts = [
        F.count_if((arrived > F.lit(since - before)) & (arrived <= F.lit(until - before))).alias(f"before_{n}")
        for n, before in enumerate(weeks)
    ]
    lately = earlier.filter(arrived > F.lit(since - WEEKS * _WEEK))
    return list(lately.agg(*counts).collect()[0])


def same_hours(cuts: Sequence[Cut], cut: Cut) -> list[int]:
    """Numbers of the batches among `cuts` that ended in the hours of the batch that `cut` ends, 1 to 4 weeks before."""
    until = datetime.fromisoformat(cut.taken_at)
    before = [datetime.fromisoformat(one.taken_at) for one in cuts if one.number == cut.number - 1]
    since = before[0] if before else until
    ended = [(one.number, datetime.fromisoformat(one.taken_at)) for one in cuts if one.number < cut.number]
    weeks = [week * _WEEK for week in range(1, WEEKS + 1)]
    return [number for number, end in ended if any(since - week < end <= until - week for week in weeks)]


def volume(now: int, weeks: Sequence[int], factor: float, what: str = "events") -> list[Finding]:
    """A finding if `now` is out of proportion to the mean of the `weeks` before, idle ones apart; counts below 100 are
    left to chance."""
    busy = [count for count in weeks if count]  # an idle week tells nothing of what is usual
    usual = sum(busy) / len(busy) if busy else now
    if max(now, usual) < MEANINGFUL or usual / factor <= now <= usual * factor:
        return []
    return [Finding(f"volume: {now:,} {what}, {usual:,.0f} in the same hours of {len(busy)} weeks before")]


def freshness(newest: datetime | None, taken_at: datetime, hours: float) -> list[Finding]:
    """`newest`: when the batch's last record was appended; a batch without any is a matter of its volume."""
    if newest is None or taken_at - newest <= timedelta(hours=hours):
        return []
    return [Finding(f"freshness: the newest record was appended {newest.isoformat()}, the cut {taken_at.isoformat()}")]


def _conditions(table: Table) -> dict[str, Column]:
    """Name of a rule -> the condition of the rows that break it."""
    wrong = {f"{name} is null": F.col(name).isNull() for name in (*table.key, *table.required)}
    for name, (least, most) in table.ranges.items():
        column = F.col(name)
        too_low = F.lit(False) if least is None else column < least
        too_high = F.lit(False) if most is None else column > most
        # NaN is larger than any number to Spark, so that a column without an upper bound would let it pass.
        broken = F.isnan(column) if table.columns[name] == "DOUBLE" else F.lit(False)
        wrong[f"{name} is out of [{_bound(least)}, {_bound(most)}]"] = too_low | too_high | broken
    return wrong


def _bound(number: float | None) -> str:
    return "" if number is None else f"{number:g}"


def _examples(frame: DataFrame, table: Table) -> list[dict[str, Any]]:
    shown: Sequence[str] = [*dict.fromkeys([*table.key, *table.ranges])]
    present = [F.col(name).cast("string").alias(name) for name in shown if name in frame.columns]
    return [row.asDict() for row in frame.select(*present).limit(EXAMPLES).collect()]
