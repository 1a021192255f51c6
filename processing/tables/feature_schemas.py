"""The tables that build_features and build_examples write."""

from __future__ import annotations

from collections.abc import Sequence

from processing.feature_definitions import COVISIT, ITEM, PAIR, VISITOR, Feature, season
from processing.tables.iceberg import WEEKLY, Table


def _values(prefix: str, features: Sequence[Feature]) -> dict[str, str]:
    return {f"{prefix}{feature.name}": "DOUBLE" for feature in features}


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
        "list_id": "STRING",
        "position": "INT",
        "impressions": "BIGINT",
        "clicks": "BIGINT",
        "click_rate": "DOUBLE",
    },
    key=("day", "list_id", "position"),
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
        "impression_id": "STRING",
        "model_version": "STRING",
        "device_type": "STRING",
        "occurred_at": "TIMESTAMP",
        "clicked": "BOOLEAN",
        "converted": "BOOLEAN",
        "expected_clicks": "DOUBLE",
        "last_item_id": "STRING",
        **dict.fromkeys(season(0), "DOUBLE"),
        **_values("item_", ITEM),
        **_values("visitor_", VISITOR),
        **_values("pair_", PAIR),
        **_values("covisit_", COVISIT),
        "as_of": "TIMESTAMP",
    },
    key=("example_id",),
    required=("visitor_id", "item_id", "occurred_at", "clicked", "converted", "as_of"),
    ranges={"expected_clicks": (0, 1), "item_click_rate_30d": (0, 1), "visitor_views_1d": (0, None)},
    partitioned_by=WEEKLY,
)

ALL = (INTERACTIONS, ITEM_FEATURES, VISITOR_FEATURES, COVISITS, POSITION_RATES, WEEKLY_PROFILE, TRAINING_EXAMPLES)
