"""For `clickstream bench jobs`: a folder's sessions by DuckDB on two threads, told as in processing.events.sessions.

Arguments: the Parquet folder of events, the file of sessions, the gap in minutes. Prints {"seconds": …, "sessions": …}.
"""

from __future__ import annotations

import json
import sys
import time

import duckdb

_SESSIONS = """
COPY (
    WITH marked AS (
        SELECT *, coalesce(device.is_bot, false) AS bot, coalesce(
            epoch_ms(occurred_at) - epoch_ms(lag(occurred_at) OVER visitor) > {gap}, true) AS begins
        FROM read_parquet('{events}/*.parquet') WHERE visitor_id IS NOT NULL
        WINDOW visitor AS (
            PARTITION BY visitor_id, coalesce(device.is_bot, false) ORDER BY occurred_at, sequence, event_id)
    ), numbered AS (
        SELECT *, last_value(CASE WHEN begins THEN event_id END IGNORE NULLS) OVER (
            PARTITION BY visitor_id, bot ORDER BY occurred_at, sequence, event_id
            ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS first_event,
            (occurred_at, sequence, event_id) AS place,
            event_type = 'page_view' AS viewed
        FROM marked
    )
    SELECT sha256(visitor_id || chr(10) || first_event) AS session_id, visitor_id, bot AS is_bot,
        arg_max(user_id, place) FILTER (user_id IS NOT NULL) AS user_id,
        min(occurred_at) AS started_at, max(occurred_at) AS ended_at, count(*) AS events,
        count(*) FILTER (viewed) AS page_views, count(DISTINCT item_id) AS items,
        arg_min(page.path, place) FILTER (viewed AND page.path IS NOT NULL) AS entry_page,
        arg_max(page.path, place) FILTER (viewed AND page.path IS NOT NULL) AS exit_page,
        arg_min(page.referrer, place) AS referrer,
        arg_min(campaign, place) FILTER (cardinality(campaign) > 0) AS campaign,
        arg_min(device, place) AS device,
        count(*) FILTER (viewed) = 1 AND count(*) FILTER (
            event_type IN ('click', 'add_to_cart', 'purchase', 'search')) = 0 AS bounced,
        count(*) FILTER (event_type = 'purchase') > 0 AS converted,
        list_sort(list(DISTINCT batch)) AS batches
    FROM numbered GROUP BY visitor_id, bot, first_event
) TO '{target}' (FORMAT parquet, COMPRESSION zstd)
"""


def main() -> None:
    events, target, minutes = sys.argv[1:]
    connection = duckdb.connect(config={"threads": 2})
    began = time.monotonic()
    connection.execute(_SESSIONS.format(events=events, target=target, gap=int(minutes) * 60_000))
    seconds = time.monotonic() - began
    [(count,)] = connection.execute(f"SELECT count(*) FROM read_parquet('{target}')").fetchall()
    print(json.dumps({"seconds": seconds, "sessions": count}))


if __name__ == "__main__":
    main()
