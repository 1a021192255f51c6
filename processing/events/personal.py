"""Rows of the tables that are personal data of given people: `ids`, rows (id, is_user, until in milliseconds).

    own = own_events(events, ids, now)       # whose rows become `anonymised`
    touched = visitors(own, sessions, ids)   # whose rows in other tables go, or are built anew

Ids are joined and never written into a query: Spark keeps its queries in logs.
"""

from __future__ import annotations

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from ingest.event.anonymise import EMPTY, ERASED, NULL, PAGE, People
from processing.events import curate
from processing.events.raw import EVENT_DDL
from processing.tables.schemas import EVENTS

_PLAIN = {"batch", "partition", "offset", "appended_at", "visitor_id", "late", "lateness_seconds", "payload_hash"}
_FIELDS = [name for name in EVENTS.columns if name not in _PLAIN]


def ids(spark: SparkSession, people: People) -> DataFrame:
    """Both kinds of ids."""
    users = [(each, True, until) for each, until in people.users.items()]
    visitors = [(each, False, until) for each, until in people.visitors.items()]
    return spark.createDataFrame([*users, *visitors], "id STRING, is_user BOOLEAN, until BIGINT")


def own_events(events: DataFrame, ids: DataFrame, now: int) -> DataFrame:
    """The people's rows of `events` (`People.own`)."""
    received = F.unix_millis("received_at")
    return _own(events, ids, F.col("user_id"), F.col("anonymous_id"), received, now).dropDuplicates(
        ["batch", "event_id"]
    )


def anonymised(events: DataFrame) -> DataFrame:
    """Rows of `events` as they would be curated from what is left of them (`ingest.event.anonymise.anonymised`)."""
    rows = events.withColumn("event", _anonymised(F.struct(*_FIELDS)))
    rows = rows.withColumns({name: F.col(f"event.{name}") for name in _FIELDS})
    nobody = F.lit(None).cast("string")
    return rows.withColumns({"visitor_id": nobody, "payload_hash": curate.payload_hash()}).select(*EVENTS.columns)


def own_invalid(invalid: DataFrame, ids: DataFrame, now: int) -> DataFrame:
    """The people's rows of `invalid`, their events anonymised."""
    read = invalid.withColumn("read", F.from_json("event", EVENT_DDL))
    own = _own(read, ids, F.col("read.user_id"), F.col("read.anonymous_id"), F.col("read.received_at"), now)
    own = own.dropDuplicates(["batch", "partition", "offset"])
    return own.withColumn("event", F.to_json(_anonymised(F.col("read")))).select(*invalid.columns)


def visitors(own: DataFrame, sessions: DataFrame, ids: DataFrame) -> DataFrame:
    """(visitor_id): those who did the events `own`, who go by the ids, or whose sessions tell of the users."""
    users = ids.filter("is_user").select(F.col("id").alias("user_id"))
    known = sessions.join(F.broadcast(users), on="user_id", how="left_semi").unionByName(
        sessions.join(F.broadcast(users.withColumnRenamed("user_id", "person_id")), on="person_id", how="left_semi")
    )
    named = ids.select(F.col("id").alias("visitor_id"))
    return own.select("visitor_id").unionByName(known.select("visitor_id")).unionByName(named).distinct()


def linked(identities: DataFrame, users: DataFrame) -> DataFrame:
    """(visitor_id): browsers that are known to be of these users (user_id), and of nobody else."""
    theirs = identities.join(F.broadcast(users), on="user_id", how="left_semi").select("visitor_id").distinct()
    others = identities.join(F.broadcast(users), on="user_id", how="left_anti").select("visitor_id")
    return theirs.join(others, on="visitor_id", how="left_anti")


def own_identities(identities: DataFrame, ids: DataFrame) -> DataFrame:
    """The links that tell who they are."""
    users = ids.filter("is_user").select(F.col("id").alias("user_id"))
    named = ids.filter("NOT is_user").select(F.col("id").alias("visitor_id"))
    by_user = identities.join(F.broadcast(users), on="user_id", how="left_semi")
    by_visitor = identities.join(F.broadcast(named), on="visitor_id", how="left_semi")
    return by_user.unionByName(by_visitor).dropDuplicates(["identity_id"])


def _own(rows: DataFrame, ids: DataFrame, user: Column, visitor: Column, received: Column, now: int) -> DataFrame:
    """Rows of which either id is theirs and that were received in time, perhaps twice."""
    columns, early = rows.columns, (received <= F.col("until")) | (received > now)
    users, named = F.broadcast(ids.filter("is_user")), F.broadcast(ids.filter("NOT is_user"))
    by_user = rows.join(users, on=user == users["id"], how="inner").filter(F.coalesce(early, F.lit(True)))
    by_visitor = rows.join(named, on=visitor == named["id"], how="inner").filter(F.coalesce(early, F.lit(True)))
    return by_user.select(*columns).unionByName(by_visitor.select(*columns))


def _anonymised(event: Column) -> Column:
    """The struct as `ingest.event.anonymise.anonymised` leaves it."""
    for name in NULL:
        event = event.withField(name, F.lit(None).cast(EVENTS.columns[name]))
    for part in PAGE:
        event = event.withField(f"page.{part}", F.lit(None).cast("string"))
    for name in EMPTY:
        event = event.withField(name, F.create_map().cast("map<string, string>"))
    flags = F.coalesce(event["flags"], F.array().cast("array<string>"))
    flagged = F.when(F.array_contains(flags, ERASED), flags).otherwise(F.array_append(flags, ERASED))
    return event.withField("message_id", event["event_id"]).withField("flags", flagged)
