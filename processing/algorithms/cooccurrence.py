"""cooccurrence: items that the same visitors met, by Jaccard's index or cosine: Microsoft's SAR (Aggarwal 2016, section
2.3)."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from processing.algorithms.interface import Choices
from processing.algorithms.item_weights import PROFILE, by_weights, newest, pairs, strongest


def cooccurrence(interactions: DataFrame, similarity: str) -> DataFrame:
    """(item_id, other_id, weight): "jaccard", or "cosine", of who met the two items."""
    met = newest(interactions, PROFILE).select("visitor_id", "item_id").persist()
    alone = met.groupBy("item_id").agg(F.count("*").alias("alone"))
    other = alone.withColumnsRenamed({"item_id": "other_id", "alone": "other_alone"})
    both = pairs(met.withColumn("value", F.lit(1.0)))
    counted = both.join(alone, on="item_id", how="inner").join(other, on="other_id", how="inner")
    weight = {
        "jaccard": F.col("both") / (F.col("alone") + F.col("other_alone") - F.col("both")),
        "cosine": F.col("both") / F.sqrt(F.col("alone") * F.col("other_alone")),
    }[similarity]
    return strongest(counted.filter("item_id != other_id").withColumn("weight", weight))


COOCCURRENCE = by_weights(
    {"similarity": "jaccard", "half_life_days": 0.0},
    {"similarity": Choices(("jaccard", "cosine")), "half_life_days": Choices((0.0, 1.0, 7.0, 30.0))},
    lambda data, parameters: cooccurrence(data.interactions, parameters["similarity"]),
    lambda parameters: ("weights", parameters["half_life_days"]),
)
