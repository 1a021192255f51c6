"""Two recommenders as one: visitors who have met few items get the lists of the one, others those of the other."""

from __future__ import annotations

from dataclasses import dataclass

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from processing.algorithms.interface import Model


@dataclass(frozen=True)
class ByHistory:
    """`few` is for those who have met at most `most` items."""

    few: Model
    many: Model
    most: int

    def top(self, visitors: DataFrame, seen: DataFrame, n: int) -> DataFrame:
        met = seen.groupBy("visitor_id").agg(F.count("*").alias("met"))
        known = visitors.select("visitor_id").join(met, on="visitor_id", how="left")
        is_few = F.coalesce("met", F.lit(0)) <= self.most
        parts = [(self.few, known.filter(is_few)), (self.many, known.filter(~is_few))]
        first, second = (model.top(some.select("visitor_id"), seen, n) for model, some in parts)
        return first.unionByName(second)

    def save(self, url: str) -> None:
        self.few.save(f"{url}/member=0")
        self.many.save(f"{url}/member=1")
