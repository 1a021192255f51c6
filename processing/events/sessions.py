"""Sessions: one visitor's events with no pause longer than the gap. DataFrames in, DataFrames out.

Bots are sessionised too, apart from people, and marked. Events of anonymous mode have no visitor and make no session.
"""

from __future__ import annotations

from datetime import timedelta

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from processing.tables import partitions
from processing.tables.schemas import SESSIONS

_VISITOR = ("visitor_id", "is_bot")
_ENGAGED = ("click", "add_to_cart", "purchase", "search")


def spans(events: DataFrame, gap: timedelta) -> DataFrame:
    """(visitor_id, is_bot, first_at, last_at): the runs of these events alone, with no pause longer than the gap."""
    runs = assign(events, gap).groupBy("session_id", *_VISITOR)
    return runs.agg(F.min("occurred_at").alias("first_at"), F.max("occurred_at").alias("last_at")).drop("session_id")


def between(current: DataFrame, new: DataFrame, gap: timedelta) -> DataFrame:
    """The `current` sessions on the days of the spans `new`; a filter that spares opening the files of all others."""
    pause = F.expr(f"INTERVAL {gap // timedelta(milliseconds=1)} MILLISECONDS")
    days = new.select(F.to_date(F.col("first_at") - pause), F.to_date(F.col("last_at") + pause)).distinct()
    return current.filter(partitions.between("started_at", "ended_at", [(row[0], row[1]) for row in days.collect()]))


def affected(current: DataFrame, new: DataFrame, gap: timedelta) -> DataFrame:
    """The `current` sessions that the spans `new` lie in or join; all others stay as they are."""
    pause = F.expr(f"INTERVAL {gap // timedelta(milliseconds=1)} MILLISECONDS")
    near = (F.col("s.started_at") <= F.col("n.last_at") + pause) & (F.col("s.ended_at") >= F.col("n.first_at") - pause)
    return current.alias("s").join(new.alias("n"), _same_visitor("s", "n") & near, how="left_semi")


def members(events: DataFrame, of: DataFrame) -> DataFrame:
    """The events that lie within the sessions `of` their visitor."""
    marked = events.withColumn("is_bot", F.coalesce("device.is_bot", F.lit(False))).alias("e")
    within = F.col("e.occurred_at").between(F.col("s.started_at"), F.col("s.ended_at"))
    return marked.join(of.alias("s"), _same_visitor("e", "s") & within, how="left_semi").select(*events.columns)


def _same_visitor(one: str, other: str) -> Column:
    same = [F.col(f"{one}.{name}") == F.col(f"{other}.{name}") for name in _VISITOR]
    return same[0] & same[1]


def assign(events: DataFrame, gap: timedelta) -> DataFrame:
    """`events` that have a visitor, with `is_bot`, `place` (their order) and `session_id`.

    A session's id is the hash of its visitor and its first event: the same at every rerun, on every machine.
    """
    order = ("occurred_at", "sequence", "event_id")  # event_id: the order is total, so the same every time
    per_visitor = Window.partitionBy(*_VISITOR).orderBy(*order)
    so_far = per_visitor.rowsBetween(Window.unboundedPreceding, Window.currentRow)
    seconds = gap.total_seconds()
    pause = F.col("occurred_at").cast("double") - F.lag("occurred_at").over(per_visitor).cast("double")
    first = F.when(F.coalesce(pause > seconds, F.lit(True)), F.col("event_id"))
    return (
        events.filter(F.col("visitor_id").isNotNull())
        .withColumn("is_bot", F.coalesce("device.is_bot", F.lit(False)))
        .withColumn("first_event", first)
        .withColumn("first_event", F.last("first_event", ignorenulls=True).over(so_far))
        .withColumn("session_id", F.sha2(F.concat_ws("\n", "visitor_id", "first_event"), 256))
        .withColumn("place", F.struct(*order))
    )


def build(events: DataFrame, gap: timedelta) -> DataFrame:
    """Rows of `sessions`, but for `person_id`, from all events of some sessions."""
    views = F.col("event_type") == "page_view"
    page_views, engaged = F.count_if(views), F.count_if(F.col("event_type").isin(*_ENGAGED))
    on_page = F.when(views & F.col("page.path").isNotNull(), F.col("place"))
    return (
        assign(events, gap)
        .groupBy("session_id", *_VISITOR)
        .agg(
            F.max_by("user_id", F.when(F.col("user_id").isNotNull(), F.col("place"))).alias("user_id"),
            F.min("occurred_at").alias("started_at"),
            F.max("occurred_at").alias("ended_at"),
            F.count("*").alias("events"),
            page_views.alias("page_views"),
            F.count_distinct("item_id").alias("items"),
            F.min_by("page.path", on_page).alias("entry_page"),
            F.max_by("page.path", on_page).alias("exit_page"),
            F.min_by("page.referrer", "place").alias("referrer"),
            F.min_by("campaign", F.when(F.size("campaign") > 0, F.col("place"))).alias("campaign"),
            F.min_by("device", "place").alias("device"),
            ((page_views == 1) & (engaged == 0)).alias("bounced"),
            (F.count_if(F.col("event_type") == "purchase") > 0).alias("converted"),
            F.sort_array(F.collect_set("batch")).alias("batches"),
        )
        .withColumn("duration_seconds", _seconds("ended_at") - _seconds("started_at"))
        .withColumns({name: F.col(f"device.{name}") for name in ("browser", "os")})
        .withColumn("device_type", F.col("device.type"))
        .select(*[name for name in SESSIONS.columns if name != "person_id"])
    )


def replacement(built: DataFrame, current: DataFrame) -> DataFrame:
    """Rows for a merge: the sessions `built`, and marked `gone` the `current` ones that they replace.

    A late event can join two sessions or move a session's first event: the old ids must go.
    """
    gone = current.join(built.select("session_id"), on="session_id", how="left_anti")
    return built.withColumn("gone", F.lit(False)).unionByName(gone.withColumn("gone", F.lit(True)))


def _seconds(name: str) -> Column:
    return F.col(name).cast("double")
