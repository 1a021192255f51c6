"""The Iceberg tables: names, schemas, what must hold of their rows. `iceberg` makes and reads, `publish` writes them.

    events  duplicates  invalid                        what became of each landed record     curate_events
    sessions  identities                               kept up to date with all events       build_sessions
    interactions  item_features  visitor_features      as of the data's time                 build_features
    covisits                                           of items that follow one another      build_features
    position_rates  weekly_profile                     of places in lists, of a week's hours build_features
    training_examples                                  impressions, clicked or not           build_examples
    evaluations                                        one row per contestant and segment    evaluate_recommender
    recommendations  similar_items  popular_items      what the export publishes             recommend_items

All but `sessions` and `identities` are partitioned by `batch` (the cut's number): a rerun overwrites just its batch.
"""

from __future__ import annotations

from collections.abc import Sequence

from processing.feature_definitions import COVISIT, ITEM, PAIR, VISITOR, Feature, season
from processing.iceberg import Table


def _values(prefix: str, features: Sequence[Feature]) -> dict[str, str]:
    return {f"{prefix}{feature.name}": "DOUBLE" for feature in features}


EVENTS = Table(
    "events",
    "curate_events",
    {
        "batch": "BIGINT",
        "partition": "INT",
        "offset": "BIGINT",
        "appended_at": "TIMESTAMP",
        "event_id": "STRING",
        "message_id": "STRING",
        "event_type": "STRING",
        "event_name": "STRING",
        "occurred_at": "TIMESTAMP",
        "received_at": "TIMESTAMP",
        "sequence": "BIGINT",
        "visitor_id": "STRING",
        "anonymous_id": "STRING",
        "user_id": "STRING",
        "client_session_id": "STRING",
        "page": "STRUCT<url: STRING, path: STRING, referrer: STRING, title: STRING>",
        "campaign": "MAP<STRING, STRING>",
        "device": "STRUCT<browser: STRING, os: STRING, type: STRING, is_bot: BOOLEAN>",
        "ip": "STRING",
        "consent": "MAP<STRING, BOOLEAN>",
        "write_key": "STRING",
        "source": "STRUCT<protocol: STRING, sdk: STRING, run: STRING>",
        "item_id": "STRING",
        "list_id": "STRING",
        "position": "INT",
        "propensity": "DOUBLE",
        "impression_id": "STRING",
        "model_version": "STRING",
        "order_id": "STRING",
        "value": "DOUBLE",
        "currency": "STRING",
        "quantity": "INT",
        "experiments": "MAP<STRING, STRING>",
        "properties": "MAP<STRING, STRING>",
        "flags": "ARRAY<STRING>",
        "late": "BOOLEAN",
        "lateness_seconds": "BIGINT",
        "payload_hash": "BIGINT",
    },
    key=("event_id",),
    required=("partition", "offset", "appended_at", "event_type", "occurred_at", "received_at", "write_key"),
    ranges={"propensity": (0, 1), "lateness_seconds": (0, None)},
    ordered_by="occurred_at",
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
    {"identity_id": "STRING", "visitor_id": "STRING", "user_id": "STRING", "since": "TIMESTAMP"},
    key=("identity_id",),
    required=("visitor_id", "user_id", "since"),
    partitioned_by="",
)
INTERACTIONS = Table(
    "interactions",
    "build_features",
    {
        "batch": "BIGINT",
        "visitor_id": "STRING",
        "item_id": "STRING",
        "events": "BIGINT",
        "weight": "DOUBLE",
        "first_at": "TIMESTAMP",
        "last_at": "TIMESTAMP",
        "as_of": "TIMESTAMP",
    },
    key=("visitor_id", "item_id"),
    required=("weight", "first_at", "last_at", "as_of"),
    ranges={"events": (1, None), "weight": (0, None)},
    steady=True,
)
ITEM_FEATURES = Table(
    "item_features",
    "build_features",
    {
        "batch": "BIGINT",
        "item_id": "STRING",
        "title": "STRING",
        "path": "STRING",
        "views": "BIGINT",
        "bot_views": "BIGINT",
        "visitors": "BIGINT",
        "impressions": "BIGINT",
        "clicks": "BIGINT",
        "add_to_carts": "BIGINT",
        "purchases": "BIGINT",
        "popularity": "DOUBLE",
        **_values("", ITEM),
        "first_at": "TIMESTAMP",
        "last_at": "TIMESTAMP",
        "as_of": "TIMESTAMP",
    },
    key=("item_id",),
    required=("title", "path", "popularity", "as_of"),
    ranges={"popularity": (0, None)},
    steady=True,
)
VISITOR_FEATURES = Table(
    "visitor_features",
    "build_features",
    {
        "batch": "BIGINT",
        "visitor_id": "STRING",
        "is_bot": "BOOLEAN",
        "events": "BIGINT",
        "page_views": "BIGINT",
        "items": "BIGINT",
        "add_to_carts": "BIGINT",
        "purchases": "BIGINT",
        "device_type": "STRING",
        "first_at": "TIMESTAMP",
        "last_at": "TIMESTAMP",
        "recency_days": "DOUBLE",
        "last_item_id": "STRING",
        **_values("", VISITOR),
        "as_of": "TIMESTAMP",
    },
    key=("visitor_id",),
    required=("is_bot", "as_of"),
    ranges={"events": (1, None), "recency_days": (0, None)},
    steady=True,
)
COVISITS = Table(
    "covisits",
    "build_features",
    {
        "batch": "BIGINT",
        "last_item_id": "STRING",
        "item_id": "STRING",
        **_values("covisit_", COVISIT),
        "as_of": "TIMESTAMP",
    },
    key=("last_item_id", "item_id"),
    required=("as_of",),
    ranges={"covisit_views_7d": (0, None), "covisit_views_30d": (1, None)},
    steady=True,
)
POSITION_RATES = Table(
    "position_rates",
    "build_features",
    {
        "batch": "BIGINT",
        "day": "DATE",
        "position": "INT",
        "impressions": "BIGINT",
        "clicks": "BIGINT",
        "click_rate": "DOUBLE",
    },
    key=("day", "position"),
    required=("click_rate",),
    ranges={"impressions": (0, None), "clicks": (0, None)},
    steady=True,
)
WEEKLY_PROFILE = Table(
    "weekly_profile",
    "build_features",
    {"batch": "BIGINT", "hour_of_week": "INT", "views": "BIGINT", "share": "DOUBLE", "as_of": "TIMESTAMP"},
    key=("hour_of_week",),
    required=("share",),
    ranges={"hour_of_week": (0, 167), "share": (0, 1)},
)
TRAINING_EXAMPLES = Table(
    "training_examples",
    "build_examples",
    {
        "batch": "BIGINT",
        "example_id": "STRING",
        "visitor_id": "STRING",
        "item_id": "STRING",
        "list_id": "STRING",
        "position": "INT",
        "propensity": "DOUBLE",
        "model_version": "STRING",
        "device_type": "STRING",
        "occurred_at": "TIMESTAMP",
        "clicked": "BOOLEAN",
        "converted": "BOOLEAN",
        "expected_clicks": "DOUBLE",
        "last_item_id": "STRING",
        **{f"{name}": "DOUBLE" for name in season(0)},
        **_values("item_", ITEM),
        **_values("visitor_", VISITOR),
        **_values("pair_", PAIR),
        **_values("covisit_", COVISIT),
        "as_of": "TIMESTAMP",
    },
    key=("example_id",),
    required=("visitor_id", "item_id", "occurred_at", "clicked", "converted", "as_of"),
    ranges={"expected_clicks": (0, 1), "item_click_rate_30d": (0, 1), "visitor_views_1d": (0, None)},
)
EVALUATIONS = Table(
    "evaluations",
    "evaluate_recommender",
    {
        "batch": "BIGINT",
        "role": "STRING",
        "algorithm": "STRING",
        "model_version": "STRING",
        "segment": "STRING",
        "k": "INT",
        "n_users": "BIGINT",
        "recall": "DOUBLE",
        "recall_interval": "ARRAY<DOUBLE>",
        "ndcg": "DOUBLE",
        "ndcg_interval": "ARRAY<DOUBLE>",
        "ndcg_over_baseline": "DOUBLE",
        "ndcg_over_baseline_interval": "ARRAY<DOUBLE>",
        "map": "DOUBLE",
        "map_interval": "ARRAY<DOUBLE>",
        "mrr": "DOUBLE",
        "mrr_interval": "ARRAY<DOUBLE>",
        "coverage": "DOUBLE",
        "novelty_bits": "DOUBLE",
        "split_at": "TIMESTAMP",
    },
    key=("role", "segment"),
    required=("k", "n_users"),
    ranges={name: (0, 1) for name in ("recall", "ndcg", "map", "mrr", "coverage")},
)
RECOMMENDATIONS = Table(
    "recommendations",
    "recommend_items",
    {
        "batch": "BIGINT",
        "visitor_id": "STRING",
        "rank": "INT",
        "item_id": "STRING",
        "score": "DOUBLE",
        "source": "STRING",
    },
    key=("visitor_id", "rank"),
    required=("item_id", "score", "source"),
    ranges={"rank": (0, None)},
    steady=True,
)
SIMILAR_ITEMS = Table(
    "similar_items",
    "recommend_items",
    {"batch": "BIGINT", "item_id": "STRING", "rank": "INT", "similar_item_id": "STRING", "score": "DOUBLE"},
    key=("item_id", "rank"),
    required=("similar_item_id", "score"),
    ranges={"rank": (0, None)},
    steady=True,
)
POPULAR_ITEMS = Table(
    "popular_items",
    "recommend_items",
    {"batch": "BIGINT", "rank": "INT", "item_id": "STRING", "score": "DOUBLE"},
    key=("rank",),
    required=("item_id", "score"),
    ranges={"rank": (0, None)},
)

ALL = (
    *(EVENTS, DUPLICATES, INVALID, SESSIONS, IDENTITIES, INTERACTIONS, ITEM_FEATURES, VISITOR_FEATURES, COVISITS),
    *(POSITION_RATES, WEEKLY_PROFILE, TRAINING_EXAMPLES, EVALUATIONS, RECOMMENDATIONS, SIMILAR_ITEMS, POPULAR_ITEMS),
)
