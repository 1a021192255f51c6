"""The Iceberg tables: names, schemas, what must hold of their rows. `iceberg` makes and reads, `publish` writes them.

Declared here are the events and what follows from them alone, in feature_schemas and model_schemas the others.

    events  duplicates  invalid                        what became of each landed record     curate_events
    sessions  identities                               kept up to date with all events       build_sessions
    interactions  item_features  visitor_features      as of the data's time                 build_features
    covisits                                           of items that follow one another      build_features
    position_rates  weekly_profile                     of places in lists, of a week's hours build_features
    training_examples                                  impressions, clicked or not           build_examples
    evaluations                                        one row per contestant and segment    evaluate_recommender
    recommendations  similar_items  popular_items      what the export publishes             recommend_items

A rerun overwrites just its batch (the cut's number), but in `sessions` and `identities`. Tables of which each batch is
a whole copy are partitioned by `batch`, and old batches go; those that grow for ever, by as many as a week has hours,
so that compaction can join their files.
"""

from __future__ import annotations

from ingest.event.codec import SCHEMA
from processing.tables import feature_schemas, model_schemas
from processing.tables.event_columns import sql_columns
from processing.tables.iceberg import WEEKLY, Table


def _event_columns() -> dict[str, str]:
    """The event's fields, and before its ids the one by which a visitor's events are gathered."""
    columns: dict[str, str] = {}
    for name, type_ in sql_columns(SCHEMA).items():
        if name == "anonymous_id":
            columns["visitor_id"] = "STRING"
        columns[name] = type_
    return columns


EVENTS = Table(
    "events",
    "curate_events",
    {
        "batch": "BIGINT",
        "partition": "INT",
        "offset": "BIGINT",
        "appended_at": "TIMESTAMP",
        **_event_columns(),
        "late": "BOOLEAN",
        "lateness_seconds": "BIGINT",
        "payload_hash": "BIGINT",
    },
    key=("event_id",),
    required=("partition", "offset", "appended_at", "event_type", "occurred_at", "received_at", "write_key"),
    ranges={"propensity": (0, 1), "lateness_seconds": (0, None)},
    ordered_by="occurred_at",
    partitioned_by=WEEKLY,
)
DUPLICATES = Table(
    "duplicates",
    "curate_events",
    {
        "batch": "BIGINT",
        "partition": "INT",
        "offset": "BIGINT",
        "appended_at": "TIMESTAMP",
        "event_id": "STRING",
        "winner_batch": "BIGINT",
        "winner_partition": "INT",
        "winner_offset": "BIGINT",
        "same_payload": "BOOLEAN",
    },
    key=("partition", "offset"),
    required=("event_id", "winner_batch", "winner_partition", "winner_offset"),
    partitioned_by=WEEKLY,
)
INVALID = Table(
    "invalid",
    "curate_events",
    {
        "batch": "BIGINT",
        "partition": "INT",
        "offset": "BIGINT",
        "appended_at": "TIMESTAMP",
        "reason": "STRING",
        "event": "STRING",
    },
    key=("partition", "offset"),
    required=("reason",),
    partitioned_by=WEEKLY,
)
SESSIONS = Table(
    "sessions",
    "build_sessions",
    {
        "session_id": "STRING",
        "visitor_id": "STRING",
        "person_id": "STRING",
        "user_id": "STRING",
        "is_bot": "BOOLEAN",
        "started_at": "TIMESTAMP",
        "ended_at": "TIMESTAMP",
        "duration_seconds": "DOUBLE",
        "events": "BIGINT",
        "page_views": "BIGINT",
        "items": "BIGINT",
        "entry_page": "STRING",
        "exit_page": "STRING",
        "referrer": "STRING",
        "campaign": "MAP<STRING, STRING>",
        "device_type": "STRING",
        "browser": "STRING",
        "os": "STRING",
        "bounced": "BOOLEAN",
        "converted": "BOOLEAN",
        "batches": "ARRAY<BIGINT>",
    },
    key=("session_id",),
    required=("visitor_id", "person_id", "is_bot", "started_at", "ended_at", "batches"),
    ranges={"duration_seconds": (0, None), "events": (1, None)},
    partitioned_by="days(started_at)",
)
IDENTITIES = Table(
    "identities",
    "build_sessions",
    {
        "identity_id": "STRING",
        "visitor_id": "STRING",
        "user_id": "STRING",
        "since": "TIMESTAMP",
        "until": "TIMESTAMP",
    },
    key=("identity_id",),
    required=("visitor_id", "user_id", "since"),
    partitioned_by="bucket(256, visitor_id)",
)

ALL = (EVENTS, DUPLICATES, INVALID, SESSIONS, IDENTITIES, *feature_schemas.ALL, *model_schemas.ALL)
