"""Co-visitation: which items people view after which. DataFrames in, DataFrames out.

Spark's side of `feature_definitions.follows`. The features of a visitor and an item are those of the pair (what the
visitor viewed last, the item): a visitor who has viewed nothing has those of a pair without a history.
"""

from __future__ import annotations

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from processing.feature_definitions import FOLLOW_GAP, FOLLOW_REACH, millis
from processing.features import values

PAIR = ("last_item_id", "item_id")
PREFIX = "covisit_"


def follows(seen: DataFrame) -> DataFrame:
    """The views that follow another: (last_item_id, item_id, time, event_type, expected_clicks), as `feature_values`
    reads them. `seen` is what `features.occurrences` gives."""
    order = Window.partitionBy("visitor_id").orderBy("time", "item_id").rowsBetween(-FOLLOW_REACH, -1)
    earlier = F.collect_list(F.struct("item_id", "time")).over(order)
    near = F.filter(
        F.col("earlier"),
        lambda one: (one["time"] >= F.col("time") - millis(FOLLOW_GAP)) & (one["item_id"] != F.col("item_id")),
    )
    return (
        _views(seen)
        .withColumn("earlier", earlier)
        .withColumn("last_item_id", F.explode(F.array_distinct(F.transform(near, lambda one: one["item_id"]))))
        .select(*PAIR, *values.EVENT_COLUMNS)
    )


def last_viewed(moments: DataFrame, seen: DataFrame) -> DataFrame:
    """(moment_id, last_item_id) of `moments`: (moment_id, visitor_id, time): what was viewed last before, if any."""
    views = _views(seen).select("visitor_id", "time", F.col("item_id").alias("last_item_id"))
    both = moments.select("moment_id", "visitor_id", "time").unionByName(views, allowMissingColumns=True)
    # A moment comes before what happens at the same time.
    order = Window.partitionBy("visitor_id").orderBy("time", F.col("moment_id").isNull(), "last_item_id")
    last = F.last("last_item_id", ignorenulls=True).over(order.rowsBetween(Window.unboundedPreceding, 0))
    return both.withColumn("last_item_id", last).filter(F.col("moment_id").isNotNull()).select("moment_id", PAIR[0])


def last_of_each(seen: DataFrame, at: int) -> DataFrame:
    """(visitor_id, last_item_id): what each visitor viewed last before `at`, milliseconds since 1970."""
    last = F.max_by("item_id", F.struct("time", "item_id")).alias(PAIR[0])
    return _views(seen).filter(F.col("time") < at).groupBy("visitor_id").agg(last)


def _views(seen: DataFrame) -> DataFrame:
    known = F.col("visitor_id").isNotNull() & F.col("item_id").isNotNull()
    return seen.filter((F.col("event_type") == "page_view") & known)
