"""Computes what the curated events up to a batch say of pairs, items and visitors.

Writes the batch's rows of interactions (visitor, item, weight by type of event and age), item_features and
visitor_features (counts and rates in windows, decayed and smoothed: processing/feature_definitions.py),
covisits (which items are viewed after which), position_rates (how often a place in a list is clicked) and
weekly_profile (page views by hour of the week). Age is counted from the newest event up to the batch, never from now:
replayed history has the features of its own time. Clients whose clocks run ahead do not move that moment; bots are no
interactions. Events that are older than processing.feature_days at that moment are not looked at.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from pyspark.sql import functions as F

from processing.features import aggregates
from processing.runtime import job
from processing.runtime.job import Job
from processing.tables import event_times
from processing.tables.feature_schemas import (
    COVISITS,
    INTERACTIONS,
    ITEM_FEATURES,
    POSITION_RATES,
    VISITOR_FEATURES,
    WEEKLY_PROFILE,
)
from processing.tables.schemas import EVENTS

_COLUMNS = ("visitor_id", "item_id", "event_type", "occurred_at", "device", "list_id", "position")


def work(this: Job) -> dict[str, Any]:
    """Writes the tables as of the newest event, all or none; without any event they are empty for this batch."""
    recent, newest = event_times.lately(this.read(EVENTS), this.settings.processing.feature_days, this.batch)
    as_of = newest or datetime(1970, 1, 1, tzinfo=UTC)
    events = recent.select(*_COLUMNS, F.struct("page.title", "page.path").alias("page")).persist()
    rates = this.settle(aggregates.position_rates(events))
    seen = aggregates.occurrences(events, rates).persist()
    this.overwrite_together(
        {
            POSITION_RATES: rates,
            INTERACTIONS: aggregates.interactions(events, as_of),
            ITEM_FEATURES: aggregates.item_features(events, seen, as_of),
            VISITOR_FEATURES: aggregates.visitor_features(events, seen, as_of),
            COVISITS: aggregates.covisitation(seen, as_of),
            WEEKLY_PROFILE: aggregates.weekly_profile(events, as_of),
        }
    )
    return {"as_of": as_of.isoformat()}


def main(argv: Sequence[str] | None = None) -> int:
    return job.run("build_features", __doc__ or "", work, argv)


if __name__ == "__main__":
    sys.exit(main())
