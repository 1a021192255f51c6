"""The tables that evaluate_recommender and recommend_items write."""

from __future__ import annotations

from processing.tables.iceberg import WEEKLY, Table

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
    partitioned_by=WEEKLY,
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

ALL = (EVALUATIONS, RECOMMENDATIONS, SIMILAR_ITEMS, POPULAR_ITEMS)
