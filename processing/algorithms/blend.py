"""Several recommenders as one, by weighted reciprocal rank fusion (Cormack, Clarke, Buettcher 2009)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from processing.algorithms.interface import Model

CANDIDATES = 50  # of each member
_FUSION = 60  # Cormack et al.: how little the first ranks stand out


@dataclass(frozen=True)
class Blend:
    """Members with their weights; each gives its first CANDIDATES."""

    members: tuple[tuple[Model, float], ...]

    def top(self, visitors: DataFrame, seen: DataFrame, n: int) -> DataFrame:
        lists = [(model.top(visitors, seen, max(n, CANDIDATES)), weight) for model, weight in self.members]
        return fuse(lists, n)

    def save(self, url: str) -> None:
        for number, (model, _) in enumerate(self.members):
            model.save(f"{url}/member={number}")


def fuse(lists: list[tuple[DataFrame, float]], n: int) -> DataFrame:
    """(visitor_id, rank, item_id, score): by the sum over the lists of weight / (60 + rank from 1), ties by item."""
    parts = [
        rows.select("visitor_id", "item_id", (F.lit(float(weight)) / (F.col("rank") + 1 + _FUSION)).alias("part"))
        for rows, weight in lists
    ]
    best = Window.partitionBy("visitor_id").orderBy(F.col("score").desc(), "item_id")
    return (
        reduce(DataFrame.unionByName, parts)
        .groupBy("visitor_id", "item_id")
        .agg(F.round(F.sum("part"), 9).alias("score"))
        .withColumn("rank", F.row_number().over(best) - 1)
        .filter(F.col("rank") < n)
        .select("visitor_id", "rank", "item_id", "score")
    )
