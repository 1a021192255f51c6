"""The lists that the web app shows: nothing twice, nothing seen, ties by id."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from ingest.event.event import Device, to_millis
from processing.algorithms import popular
from processing.training import lists
from tests.support.events import NOON, click
from tests.support.spark import Events

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

GAP = timedelta(minutes=30)


def pairs(spark: SparkSession, *rows: tuple[str, str]) -> DataFrame:
    return spark.createDataFrame(list(rows), "visitor_id STRING, item_id STRING")


def ranked(spark: SparkSession, *items: str) -> DataFrame:
    rows = [(rank, item, float(len(items) - rank)) for rank, item in enumerate(items)]
    return spark.createDataFrame(rows, "rank INT, item_id STRING, score DOUBLE")


def by_rank(rows: DataFrame, by: str = "visitor_id", item: str = "item_id") -> dict[str, list[str]]:
    """`by` -> items in order of rank; ranks count from 0 without a gap."""
    found: dict[str, list[str]] = {}
    for row in rows.orderBy(by, "rank").collect():
        assert row["rank"] == len(found.setdefault(row[by], []))
        found[row[by]].append(row[item])
    return found


def test_popular_items_are_ordered_by_popularity_then_id(spark: SparkSession) -> None:
    items = spark.createDataFrame([("b", 1.0), ("a", 1.0), ("c", 2.0), ("z", 0.0)], "item_id STRING, popularity DOUBLE")
    assert [row["item_id"] for row in popular.most(items, 5).orderBy("rank").collect()] == ["c", "a", "b"]


def test_visitors_get_learned_items_first_and_none_that_they_know(spark: SparkSession) -> None:
    visitors = pairs(spark, ("ann", ""), ("bob", ""), ("new", "")).select("visitor_id")
    seen = pairs(spark, ("ann", "a"), ("bob", "b"))
    learned = spark.createDataFrame(
        [("ann", 0, "c", 0.9), ("bob", 0, "e", 0.9), ("bob", 1, "a", 0.8), ("bob", 2, "d", 0.7)],
        "visitor_id STRING, rank INT, item_id STRING, score DOUBLE",
    )
    found = lists.for_visitors(visitors, learned, ranked(spark, "a", "b", "c", "d", "f"), seen, 3, "als").persist()
    assert by_rank(found) == {"ann": ["c", "b", "d"], "bob": ["e", "a", "d"], "new": ["a", "b", "c"]}
    sources = {(row["visitor_id"], row["source"]) for row in found.collect()}
    assert sources == {("ann", "als"), ("ann", "popular"), ("bob", "als"), ("new", "popular")}


def test_without_a_model_all_get_popular_items(spark: SparkSession) -> None:
    visitors, seen = pairs(spark, ("ann", "a")).select("visitor_id"), pairs(spark, ("ann", "a"))
    found = lists.for_visitors(visitors, None, ranked(spark, "a", "b", "c"), seen, 9)
    assert by_rank(found) == {"ann": ["b", "c"]}


def test_similar_items_are_those_of_the_same_sessions_of_people(events: Events) -> None:
    def visit(visitor: str, *items: str, bot: bool = False) -> list[object]:
        return [
            click(
                message_id=f"{visitor}-{n}",
                anonymous_id=visitor,
                item_id=item,
                occurred_at=to_millis(NOON),
                device=Device(is_bot=bot),
            )
            for n, item in enumerate(items)
        ]

    rows = events(
        *visit("1", "a", "b", "c", "a"),
        *visit("2", "a", "b"),
        *visit("3", "b", "d"),
        *visit("4", "e"),
        *visit("5", "a", "e", bot=True),
    )
    found = lists.similar(rows, GAP, 2).persist()
    # cosine: a-b 2/sqrt(2*3), a-c 1/sqrt(2*1), b-c and b-d 1/sqrt(3*1): the tie goes by id.
    assert by_rank(found, "item_id", "similar_item_id") == {
        "a": ["b", "c"],
        "b": ["a", "c"],
        "c": ["a", "b"],
        "d": ["b"],
    }
    scores = {(row["item_id"], row["similar_item_id"]): row["score"] for row in found.collect()}
    assert scores["a", "b"] == scores["b", "a"] == 0.816497
