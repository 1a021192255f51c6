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
        histories = _histories(sample, happened, subject)
        for row in rows:
            history = histories.get(tuple(row[name] for name in subject))
            if history is not None:
                for name in _differences(row, prefix, features, history):
                    differing[row["example_id"]].append(name)
    sample.unpersist()
    if not differing:
        return []
    shown = [{"example_id": one, "columns": ", ".join(names)} for one, names in differing.items()]
    return [Finding(f"of {len(rows)} examples some are not of their moment", len(differing), shown)]


def _histories(sample: DataFrame, seen: DataFrame, subject: tuple[str, ...]) -> dict[tuple[str, ...], list[Occurrence]]:
    """The events of each sampled subject; those with too many are left out."""
    wanted = F.broadcast(sample.select(*subject).distinct())
    events = seen.join(wanted, on=list(subject), how="left_semi")
    few = events.groupBy(*subject).count().filter(F.col("count") <= MAX_EVENTS).drop("count")
    histories: dict[tuple[str, ...], list[Occurrence]] = defaultdict(list)
    for row in events.join(few, on=list(subject), how="left_semi").collect():
        histories[tuple(row[name] for name in subject)].append((row["time"], row["event_type"], row["expected_clicks"]))
    return histories


def _differences(row: Row, prefix: str, features: Sequence[Feature], history: list[Occurrence]) -> list[str]:
    wanted = compute(features, history, row["time"])
    return [f"{prefix}{name}" for name, value in wanted.items() if not _equal(row[f"{prefix}{name}"], value)]


def _equal(found: float | None, wanted: float | None) -> bool:
    if found is None or wanted is None:
        return found is wanted
    return math.isclose(found, wanted, rel_tol=1e-9, abs_tol=_TOLERANCE)
