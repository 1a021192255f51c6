"""nearest_sessions: what came up in the sessions most like a visitor's latest one, blended with a Markov chain.

Sessions of the training set are the model; it lies in the driver's memory, which `max_sessions` bounds, and ranks items
for each different latest session there. See session_neighbours.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from processing.algorithms.interface import MAX_SEEN, Algorithm, Choices, Model, NextItem, Range, TrainingSet
from processing.algorithms.session_neighbours import LAST, NearestSessions

CANDIDATES = 100  # of a session, beyond those asked for: its visitor may have met some of them before


@dataclass(frozen=True)
class SessionLists:
    """`sessions`: item ids in order, oldest session first. A latest session ends with a pause longer than `gap`."""

    sessions: list[list[str]]
    parameters: dict[str, Any]
    gap: timedelta

    def top(self, visitors: DataFrame, seen: DataFrame, n: int) -> DataFrame:
        """(visitor_id, rank from 0, item_id, score > 0), the best `n` that are not in `seen`, ties by item id."""
        met = seen.join(visitors.select("visitor_id"), on="visitor_id", how="left_semi")
        latest = _latest(met, self.gap).persist()
        ranked = self._ranked(latest.select("latest").distinct().toArrow()["latest"].to_pylist(), n + CANDIDATES)
        schema = "latest ARRAY<STRING>, ranked ARRAY<STRUCT<item_id: STRING, score: DOUBLE>>"
        lists = seen.sparkSession.createDataFrame(ranked, schema)
        best = Window.partitionBy("visitor_id").orderBy(F.col("score").desc(), "item_id")
        return (
            latest.join(lists, on="latest", how="inner")
            .select("visitor_id", F.inline("ranked"))
            .join(met.select("visitor_id", "item_id"), on=["visitor_id", "item_id"], how="left_anti")
            .withColumn("rank", F.row_number().over(best) - 1)
            .filter(F.col("rank") < n)
            .select("visitor_id", "rank", "item_id", "score")
        )

    def save(self, url: str) -> None:
        items = pa.array(self.sessions, pa.list_(pa.string()))
        gaps = pa.repeat(self.gap.total_seconds(), len(items))
        rows = pa.table({"number": range(len(items)), "items": items, "gap_seconds": gaps})
        SparkSession.active().createDataFrame(rows).coalesce(1).write.mode("overwrite").parquet(f"{url}/sessions")

    @cached_property
    def _ids(self) -> list[str]:
        return sorted({item for session in self.sessions for item in session})

    @cached_property
    def _index(self) -> dict[str, int]:
        return {item: number for number, item in enumerate(self._ids)}

    @cached_property
    def _nearest(self) -> NextItem:
        return _learn([[self._index[item] for item in session] for session in self.sessions], self.parameters)

    def _ranked(self, latest: Sequence[list[str]], n: int) -> pa.Table:
        """(latest, ranked): the `n` best for each session that has a known item."""
        rows = []
        for session in sorted(latest):
            known = [self._index[item] for item in session if item in self._index]
            scores = self._nearest.scores(known) if known else {}
            rounded = {item: round(score, 9) for item, score in scores.items() if item not in known}
            best = sorted((item for item in rounded if rounded[item] > 0), key=lambda item: (-rounded[item], item))[:n]
            rows.append([{"item_id": self._ids[item], "score": rounded[item]} for item in best])
        pair = pa.struct([("item_id", pa.string()), ("score", pa.float64())])
        return pa.table(
            {"latest": pa.array(sorted(latest), pa.list_(pa.string())), "ranked": pa.array(rows, pa.list_(pair))}
        )


def _latest(seen: DataFrame, gap: timedelta) -> DataFrame:
    """(visitor_id, latest: item ids, the newest last): each visitor's latest session, at most LAST items of it.

    An item stands where it was met last.
    """
    back = Window.partitionBy("visitor_id").orderBy(F.col("last_at").desc(), F.col("item_id").desc())
    seconds = F.col("last_at").cast("double")
    pause = F.coalesce(F.lag(seconds).over(back) - seconds > gap.total_seconds(), F.lit(False))
    item = F.struct((-F.col("place")).alias("order"), "item_id")
    return (
        seen.withColumn("pause", pause.cast("int"))
        .withColumn("place", F.row_number().over(back))
        .withColumn("session", F.sum("pause").over(back.rowsBetween(Window.unboundedPreceding, 0)))
        .filter((F.col("session") == 0) & (F.col("place") <= LAST))
        .groupBy("visitor_id")
        .agg(F.sort_array(F.collect_list(item)).getField("item_id").alias("latest"))
    )


def sessions(visits: DataFrame, gap: timedelta, max_sessions: int) -> list[list[str]]:
    """The newest sessions of two items or more, oldest first; an item that follows itself counts once.

    `visits`: (visitor_id, item_id, occurred_at). Of a session the first MAX_SEEN items count.
    """
    in_order = Window.partitionBy("visitor_id").orderBy("occurred_at", "item_id")
    seconds = F.col("occurred_at").cast("double")
    pause = F.coalesce(seconds - F.lag(seconds).over(in_order) > gap.total_seconds(), F.lit(True))
    of_visitor = in_order.rowsBetween(Window.unboundedPreceding, 0)
    numbered = visits.withColumn("pause", pause.cast("int")).withColumn("session", F.sum("pause").over(of_visitor))
    of_session = Window.partitionBy("visitor_id", "session").orderBy("occurred_at", "item_id")
    again = F.coalesce(F.lag("item_id").over(of_session) == F.col("item_id"), F.lit(False))
    step = F.struct("occurred_at", "item_id")
    newest = (
        numbered.withColumn("again", again)
        .filter(~F.col("again"))
        .groupBy("visitor_id", "session")
        .agg(F.slice(F.sort_array(F.collect_list(step)), 1, MAX_SEEN).alias("steps"))
        .filter(F.size("steps") > 1)
        .select("visitor_id", "session", F.element_at("steps", -1)["occurred_at"].alias("ended_at"), "steps.item_id")
        .orderBy(F.col("ended_at").desc(), "visitor_id", "session")
        .limit(max_sessions)
        .select("item_id")
    )
    found: list[list[str]] = newest.toArrow()["item_id"].to_pylist()
    return found[::-1]


def _learn(some: Sequence[Sequence[int]], parameters: dict[str, Any]) -> NextItem:
    return NearestSessions(some, *(parameters[name] for name in ("neighbours", "sample", "chain")))


def _fit(data: TrainingSet, parameters: dict[str, Any]) -> Model | None:
    key = "nearest_sessions", parameters["max_sessions"]
    if key not in data.cache:
        data.cache[key] = sessions(data.visits, data.gap, parameters["max_sessions"])
    return SessionLists(data.cache[key], parameters, data.gap) if data.cache[key] else None


def _load(spark: SparkSession, parameters: dict[str, Any], url: str) -> Model:
    rows = spark.read.parquet(f"{url}/sessions").orderBy("number").toArrow()
    return SessionLists(rows["items"].to_pylist(), parameters, timedelta(seconds=rows["gap_seconds"][0].as_py()))


NEAREST_SESSIONS = Algorithm(
    {"neighbours": 100, "sample": 1_000, "chain": 0.3, "max_sessions": 200_000},
    {
        "neighbours": Choices((50, 100, 500)),
        "chain": Range(0.0, 1.0, grid=(0.3,)),
    },
    _fit,
    _load,
    learn_sessions=_learn,
)
