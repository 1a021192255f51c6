"""Whether training examples know their future: a sample is computed anew from the events before each."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F

from processing.examples import subjects
from processing.feature_definitions import Feature, Occurrence, compute
from processing.quality import Finding

SAMPLE = 50
MAX_EVENTS = 2_000  # of a subject: one with more would have to be brought to the driver
Subject = tuple[str, ...]
Histories = dict[Subject, list[Occurrence]]
_TOLERANCE = 2e-6  # values are rounded to 6 digits


def find(examples: DataFrame, seen: DataFrame) -> list[Finding]:
    """A finding if any of the sampled `examples` has another value than `compute` gives from `seen`.

    The sample is of those with the lowest hashes: the same at every run. `seen` is what `features.occurrences` gives.
    """
    lowest = examples.orderBy(F.xxhash64("example_id"), "example_id").limit(SAMPLE)
    sample = lowest.withColumn("time", F.unix_millis("occurred_at")).persist()
    rows = sample.collect()
    differing: dict[str, list[str]] = defaultdict(list)
    for happened, subject, features, prefix in subjects(seen):
        histories, crowded = _histories(sample, happened, subject)
        for row in rows:
            who = tuple(row[name] for name in subject)
            if who not in crowded:
                for name in _differences(row, prefix, features, histories.get(who, [])):
                    differing[row["example_id"]].append(name)
    sample.unpersist()
    if not differing:
        return []
    shown = [{"example_id": one, "columns": ", ".join(names)} for one, names in differing.items()]
    return [Finding(f"of {len(rows)} examples some are not of their moment", len(differing), shown)]


def _histories(sample: DataFrame, seen: DataFrame, subject: tuple[str, ...]) -> tuple[Histories, set[Subject]]:
    """The events of each sampled subject, and those subjects that have too many."""
    wanted = F.broadcast(sample.select(*subject).distinct())
    events = seen.join(wanted, on=list(subject), how="left_semi").persist()
    counts = events.groupBy(*subject).count().persist()
    crowded = {tuple(row[name] for name in subject) for row in counts.filter(F.col("count") > MAX_EVENTS).collect()}
    few = counts.filter(F.col("count") <= MAX_EVENTS)
    histories: Histories = defaultdict(list)
    for row in events.join(few, on=list(subject), how="left_semi").collect():
        histories[tuple(row[name] for name in subject)].append((row["time"], row["event_type"], row["expected_clicks"]))
    return histories, crowded


def _differences(row: Row, prefix: str, features: Sequence[Feature], history: list[Occurrence]) -> list[str]:
    wanted = compute(features, history, row["time"])
    return [f"{prefix}{name}" for name, value in wanted.items() if not _equal(row[f"{prefix}{name}"], value)]


def _equal(found: float | None, wanted: float | None) -> bool:
    if found is None or wanted is None:
        return found is wanted
    return math.isclose(found, wanted, rel_tol=1e-9, abs_tol=_TOLERANCE)
