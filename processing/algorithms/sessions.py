"""sessions: what was met a few steps apart in a session, newer sessions and nearer steps counting more: a Markov chain
over several steps (Ludewig and Jannach 2018: sequential rules)."""

from __future__ import annotations

from datetime import datetime, timedelta

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from processing.algorithms.interface import Choices, Range
from processing.algorithms.item_weights import DAY, by_weights, strongest


def followers(
    visits: DataFrame, as_of: datetime, gap: timedelta, steps: int, half_life_days: float, backward: float
) -> DataFrame:
    """(item_id, other_id, weight): other_id followed item_id in a session, 1 / steps each time, halved for each
    `half_life_days` of age at `as_of`, as a share of all that followed; what went before counts `backward` of it.

    `visits`: (visitor_id, item_id, occurred_at); a session ends with a pause longer than `gap`.
    """
    in_order = Window.partitionBy("visitor_id").orderBy("occurred_at", "item_id")
    seconds = F.col("occurred_at").cast("double")
    pause = F.coalesce(seconds - F.lag(seconds).over(in_order) > gap.total_seconds(), F.lit(True))
    of_session = Window.partitionBy("visitor_id", "session").orderBy("occurred_at", "item_id")
    following = F.array(*(F.struct(F.lead("item_id", s).over(of_session), F.lit(1.0 / s)) for s in range(1, steps + 1)))
    age = F.greatest(F.lit(0.0), F.lit(as_of).cast("double") - seconds)  # a clock that runs ahead is now
    decay = F.pow(F.lit(0.5), age / (half_life_days * DAY))
    steps_apart = (
        visits.withColumn("pause", pause.cast("int"))
        .withColumn("session", F.sum("pause").over(in_order))
        .withColumn("following", following)
        .select("item_id", decay.alias("decay"), F.explode("following").alias("next"))
        .select("item_id", F.col("next.col1").alias("other_id"), (F.col("next.col2") * F.col("decay")).alias("weight"))
        .filter(F.col("other_id").isNotNull() & (F.col("item_id") != F.col("other_id")))
        .persist()
    )
    turned = steps_apart.select(
        F.col("other_id").alias("item_id"), F.col("item_id").alias("other_id"), F.col("weight") * backward
    )
    both = steps_apart.union(turned) if backward else steps_apart
    summed = both.groupBy("item_id", "other_id").agg(F.sum("weight").alias("weight"))
    share = F.col("weight") / F.sum("weight").over(Window.partitionBy("item_id"))
    return strongest(summed.withColumn("weight", share))


SESSIONS = by_weights(
    {"steps": 5, "half_life_days": 30.0, "backward": 0.5},
    {
        "steps": Choices((1, 3, 5, 10, 20)),
        "half_life_days": Range(1.0, 90.0, grid=(30.0,)),
        "backward": Range(0.0, 1.0, grid=(0.5,)),
    },
    lambda data, parameters: followers(data.visits, data.as_of, data.gap, **parameters),
    lambda parameters: ("recency", 0.0),
)
