"""A small export, table by table."""

from __future__ import annotations

import pyarrow as pa

TABLES = {
    "for_visitors": pa.table(
        {"visitor_id": ["ann"], "rank": [0], "item_id": ["/b"], "score": [1.0], "source": ["als"]}
    ),
    "similar": pa.table({"item_id": ["/a"], "rank": [0], "similar_item_id": ["/c"], "score": [0.5]}),
    "popular": pa.table({"rank": [0, 1, 2], "item_id": ["/a", "/b", "/c"], "score": [3.0, 2.0, 1.0]}),
    "items": pa.table(
        {"item_id": ["/a", "/b", "/c"], "title": ["A", "B", "C"], "path": ["/a", "/b", "/c"], "views": [3, 2, 1]}
    ),
}
