"""Computes what all curated events up to a batch say of pairs, items and visitors.

Writes the batch's rows of interactions (visitor, item, weight by type of event and age), item_features and
visitor_features. Age is counted from the newest event up to the batch, never from now: replayed history has the
features of its own time. Events flagged odd_clock do not move that moment; bots are no interactions.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from processing import features, job
from processing.job import Job
from processing.tables import EVENTS, INTERACTIONS, ITEM_FEATURES, VISITOR_FEATURES

_COLUMNS = ("visitor_id", "item_id", "event_type", "occurred_at", "page", "device", "flags")


def work(this: Job) -> dict[str, Any]:
    """Writes the three tables as of the newest event; without any event they are empty for this batch."""
    events = this.read(EVENTS).select(*_COLUMNS).persist()
    as_of = features.newest(events) or datetime(1970, 1, 1, tzinfo=UTC)
    this.overwrite(INTERACTIONS, features.interactions(events, as_of))
    this.overwrite(ITEM_FEATURES, features.item_features(events, as_of))
    this.overwrite(VISITOR_FEATURES, features.visitor_features(events, as_of))
    return {"as_of": as_of.isoformat()}


def main(argv: Sequence[str] | None = None) -> int:
    return job.run("build_features", __doc__ or "", work, argv)


if __name__ == "__main__":
    sys.exit(main())
