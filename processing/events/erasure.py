"""Erasure of people from landed files, tables, models and exports, request by request. See jobs/erase_people.py."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ingest.event.anonymise import People
from processing.errors import NotErased
from processing.events import identities, personal, sessions
from processing.runtime.job import Job
from processing.tables import iceberg, maintenance, publish
from processing.tables.feature_schemas import INTERACTIONS, TRAINING_EXAMPLES, VISITOR_FEATURES
from processing.tables.iceberg import Table
from processing.tables.model_schemas import RECOMMENDATIONS
from processing.tables.schemas import EVENTS, IDENTITIES, INVALID, SESSIONS
from storage import exports
from storage.batches import cuts
from storage.upkeep import erasure as landed
from storage.upkeep import erasure_requests
from storage.upkeep.erasure_requests import Request

OF_VISITORS = (INTERACTIONS, VISITOR_FEATURES, TRAINING_EXAMPLES, RECOMMENDATIONS)
_WRITER = "erase"
TELLING = ("landed", "events", "invalid", "rows")  # counts that must be 0 before a request is closed
FACTS = ("requests", "done", *TELLING, "lists")
PERSONAL = (EVENTS, INVALID, SESSIONS, IDENTITIES, *OF_VISITORS)


def carry_out_requests(this: Job) -> dict[str, Any]:
    """Requests that were carried out before are looked at again; those that are new, for the first time."""
    now, facts, failed = datetime.now(UTC), dict.fromkeys(FACTS, 0), dict[str, str]()
    if not (requests := erasure_requests.pending(this.fs, this.settings.hdfs.root)):
        return facts
    for table in PERSONAL:
        iceberg.create(this.spark, table)
    requests = [with_linked(this, request) for request in requests]
    facts["requests"] = len(requests)
    pause = timedelta(hours=this.settings.processing.erasure_pause_hours)
    for group in filter(None, (due(requests, pause, now), [one for one in requests if one.erased_at is None])):
        found, unreadable = carry_out(this, group, now)
        facts |= {name: facts[name] + count for name, count in found.items()}
        failed |= unreadable
    if failed:
        raise NotErased(failed)
    return facts


def due(requests: Sequence[Request], pause: timedelta, now: datetime) -> list[Request]:
    """Requests carried out so long ago that every job which read the tables then has ended."""
    return [one for one in requests if one.erased_at and datetime.fromisoformat(one.erased_at) + pause <= now]


def carry_out(this: Job, group: Sequence[Request], now: datetime) -> tuple[dict[str, int], dict[str, str]]:
    """Carries out a group of requests: counts of what was found, and the files that can't be read. Requests that were
    carried out before, and of which nothing was found, are closed."""
    root, taken_at = this.settings.hdfs.root, datetime.fromisoformat(this.cut.taken_at)
    for request in group:  # a run that dies from here on has not carried it out
        erasure_requests.save(this.fs, root, replace(request, erased_at=None))
    # What came after the batch may tell of browsers that nobody knows yet: it is for the next run.
    people = erasure_requests.people(group, taken_at, now)
    found, failed = forget(this, people, max(one.batch or this.batch for one in group))
    if failed:
        return found, failed
    looked_before = all(one.erased_at and taken_at >= datetime.fromisoformat(one.requested_at) for one in group)
    if looked_before and not any(found[name] for name in TELLING):
        finish(this, group, now)
        return found | {"done": len(group)}, {}
    newest = cuts.newest(this.fs, this.layout)
    erased_at = datetime.now(UTC).isoformat()  # after the last commit: earlier snapshots may be dropped
    for request in group:  # jobs of batches up to the newest may have read the tables before
        done = replace(request, erased_at=erased_at, batch=newest.number if newest else this.batch)
        erasure_requests.save(this.fs, root, done)
    return found, {}


def with_linked(this: Job, request: Request) -> Request:
    """The request with the browsers of its users: recorded before the links go, so that a rerun knows them too."""
    if not request.user_ids:
        return request
    users = this.spark.createDataFrame([(user,) for user in request.user_ids], "user_id STRING")
    known = iceberg.read(this.spark, IDENTITIES).unionByName(
        identities.links(iceberg.read(this.spark, EVENTS), this.gap)
    )
    found = personal.linked(known, users).collect()
    wider = request.with_linked(row["visitor_id"] for row in found)
    if wider != request:
        erasure_requests.save(this.fs, this.settings.hdfs.root, wider)
    return wider


def forget(this: Job, people: People, until: int) -> tuple[dict[str, int], dict[str, str]]:
    """Takes these people out of everything; how much was found, and which files can't be read. Events come last, as
    they tell what else is theirs. Of tables with batches those up to `until` lose their rows."""
    root, ids = this.settings.hdfs.root, this.settle(personal.ids(this.spark, people))
    files = landed.erase(this.fs, root, people)
    events = iceberg.read(this.spark, EVENTS)
    own = this.settle(personal.own_events(events, ids, people.now))
    touched = this.settle(personal.visitors(own, iceberg.read(this.spark, SESSIONS), ids))
    rebuild_sessions(this, events, own, touched, ids)
    rows = [drop(this, table, touched, until) for table in OF_VISITORS]
    names = set(people.ids) | {row["visitor_id"] for row in touched.collect()}
    lists = exports.erase_visitors(this.fs, root, names) + landed.forget_models(this.fs, root, names)
    landed.forget_reports(this.fs, root, people)
    invalid = this.settle(personal.own_invalid(iceberg.read(this.spark, INVALID), ids, people.now))
    counts = {"landed": files.records, "rows": sum(rows), "lists": lists}
    for table, changed in ((INVALID, invalid), (EVENTS, personal.anonymised(own))):
        counts[table.name] = put(this, table, changed)
    return counts, files.failed


def rebuild_sessions(this: Job, events: DataFrame, own: DataFrame, touched: DataFrame, ids: DataFrame) -> None:
    """Sessions and links of the touched visitors, from the events that are not `own`."""
    links = iceberg.read(this.spark, IDENTITIES)
    gone = this.settle(personal.own_identities(links, ids))
    left = links.join(gone.select("identity_id"), on="identity_id", how="left_anti")
    others = events.join(F.broadcast(touched), on="visitor_id", how="left_semi")
    others = others.join(own.select("batch", "event_id"), on=["batch", "event_id"], how="left_anti")
    current = iceberg.read(this.spark, SESSIONS).join(F.broadcast(touched), on="visitor_id", how="left_semi")
    built = identities.resolve(sessions.build(others, this.gap), "session_id", "ended_at", left)
    rows = this.settle(sessions.replacement(built.select(*SESSIONS.columns), current))
    this.replace_matching(SESSIONS, rows, _WRITER)
    this.replace_matching(IDENTITIES, gone.withColumn("gone", F.lit(True)), _WRITER)


def drop(this: Job, table: Table, visitors: DataFrame, until: int) -> int:
    """Deletes the visitors' rows in the batches up to `until`; how many."""
    rows = iceberg.read(this.spark, table).filter(F.col("batch") <= until)
    count = rows.join(F.broadcast(visitors), on="visitor_id", how="left_semi").count()
    if count:
        publish.delete(this.spark, table, visitors, until)
    return count


def put(this: Job, table: Table, rows: DataFrame) -> int:
    """Puts the rows in the place of those with their keys; how many. They were checked when they were first written."""
    rows = this.settle(rows)
    if count := rows.count():
        kept = rows.withColumn("gone", F.lit(False))
        publish.replace_matching(this.spark, table, kept, f"{_WRITER}_{this.batch}", lambda _: None)
    return count


def finish(this: Job, requests: Sequence[Request], now: datetime) -> None:
    """Drops what the tables were before the last run, and forgets the requests' ids."""
    before = max(datetime.fromisoformat(request.erased_at) for request in requests if request.erased_at)
    for table in PERSONAL:
        maintenance.drop_references(this.spark, table, before)
        maintenance.expire(this.spark, table, before)
    landed.forget_checkpoints(this.fs, this.settings.hdfs.root, before)
    for request in requests:
        erasure_requests.close(this.fs, this.settings.hdfs.root, request, now)
