"""Forgets the people whom open requests name (`clickstream erasures request`), and closes requests that are done.

What they did until the request becomes nobody's, in all landed files and in the tables events and invalid: it tells of
items, places and money as before. Their links, features, examples, lists and the names in trained recommenders go;
sessions are built anew from what others did on the same browsers; exports lose their lists, the one in force by a new
version. Counts stay, so that gates and audit do.

A request stays open until a later run finds nothing of it any more: what was late, or was copied meanwhile, is found by
then. That run also drops the tables' snapshots from before, tagged or not, so that models of then can't be trained
again on the very same rows, and the names of whoever asked. What is still in Kafka leaves it by its own retention.
`--batch` names the newest curated batch.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ingest.erasure import People
from processing import erase, iceberg, identities, job, publish, sessions, upkeep
from processing.errors import NotErased
from processing.iceberg import Table
from processing.job import Job
from processing.tables import (
    EVENTS,
    IDENTITIES,
    INTERACTIONS,
    INVALID,
    RECOMMENDATIONS,
    SESSIONS,
    TRAINING_EXAMPLES,
    VISITOR_FEATURES,
)
from storage import batches, erasures, exports
from storage import erase as landed
from storage.erasures import Request

OF_VISITORS = (INTERACTIONS, VISITOR_FEATURES, TRAINING_EXAMPLES, RECOMMENDATIONS)
_WRITER = "erase"
TELLING = ("landed", "events", "invalid", "rows")  # of which nothing may be found any more
FACTS = ("requests", "done", *TELLING, "lists")
PERSONAL = (EVENTS, INVALID, SESSIONS, IDENTITIES, *OF_VISITORS)


def work(this: Job) -> dict[str, Any]:
    """Requests that were carried out before are looked at again; those that are new, for the first time."""
    now, facts, failed = datetime.now(UTC), dict.fromkeys(FACTS, 0), dict[str, str]()
    if not (requests := erasures.pending(this.fs, this.settings.hdfs.root)):
        return facts
    for table in PERSONAL:
        iceberg.create(this.spark, table)
    requests = [with_linked(this, request) for request in requests]
    facts["requests"] = len(requests)
    for group in filter(None, (due(this, requests, now), [one for one in requests if one.erased_at is None])):
        found, unreadable = carry_out(this, group, now)
        facts |= {name: facts[name] + count for name, count in found.items()}
        failed |= unreadable
    if failed:
        raise NotErased(failed)
    return facts


def due(this: Job, requests: Sequence[Request], now: datetime) -> list[Request]:
    """Those that were carried out long enough ago that who read the tables then has ended."""
    pause = timedelta(hours=this.settings.processing.erasure_pause_hours)
    return [one for one in requests if one.erased_at and datetime.fromisoformat(one.erased_at) + pause <= now]


def carry_out(this: Job, group: Sequence[Request], now: datetime) -> tuple[dict[str, int], dict[str, str]]:
    """What was found, and the files that can't be read. Requests of which nothing was found, and that were carried out
    before, are done."""
    root, taken_at = this.settings.hdfs.root, datetime.fromisoformat(this.cut.taken_at)
    for request in group:  # whoever dies from here on has not carried it out
        erasures.save(this.fs, root, replace(request, erased_at=None))
    # What came after the batch may tell of browsers that nobody knows yet: it is for the next run.
    people = erasures.people(group, taken_at, now)
    found, failed = forget(this, people, max(one.batch or this.batch for one in group))
    if failed:
        return found, failed
    looked_before = all(one.erased_at and taken_at >= datetime.fromisoformat(one.requested_at) for one in group)
    if looked_before and not any(found[name] for name in TELLING):
        finish(this, group, now)
        return found | {"done": len(group)}, {}
    newest = batches.newest(this.fs, this.layout)
    erased_at = datetime.now(UTC).isoformat()  # after the last commit: what the tables were before may go
    for request in group:  # what is being made of batches up to the newest was perhaps read before
        done = replace(request, erased_at=erased_at, batch=newest.number if newest else this.batch)
        erasures.save(this.fs, root, done)
    return found, {}


def with_linked(this: Job, request: Request) -> Request:
    """The request with the browsers of its users: recorded before the links go, so that a rerun knows them too."""
    if not request.user_ids:
        return request
    users = this.spark.createDataFrame([(user,) for user in request.user_ids], "user_id STRING")
    known = iceberg.read(this.spark, IDENTITIES).unionByName(identities.links(iceberg.read(this.spark, EVENTS)))
    found = erase.linked(known, users).collect()
    wider = request.with_linked(row["visitor_id"] for row in found)
    if wider != request:
        erasures.save(this.fs, this.settings.hdfs.root, wider)
    return wider


def forget(this: Job, people: People, until: int) -> tuple[dict[str, int], dict[str, str]]:
    """Takes these people out of everything; how much was found, and which files can't be read. Events come last, as
    they tell what else is theirs. Of tables with batches those up to `until` lose their rows."""
    root, ids = this.settings.hdfs.root, this.settle(erase.ids(this.spark, people))
    files = landed.erase(this.fs, root, people)
    events = iceberg.read(this.spark, EVENTS)
    own = this.settle(erase.own_events(events, ids, people.now))
    touched = this.settle(erase.visitors(own, iceberg.read(this.spark, SESSIONS), ids))
    rebuild_sessions(this, events, own, touched, ids)
    rows = [drop(this, table, touched, until) for table in OF_VISITORS]
    names = set(people.ids) | {row["visitor_id"] for row in touched.collect()}
    lists = exports.forget(this.fs, root, names) + landed.forget_models(this.fs, root, names)
    landed.forget_reports(this.fs, root, people)
    invalid = this.settle(erase.own_invalid(iceberg.read(this.spark, INVALID), ids, people.now))
    counts = {"landed": files.records, "rows": sum(rows), "lists": lists}
    for table, changed in ((INVALID, invalid), (EVENTS, erase.anonymised(own))):
        counts[table.name] = put(this, table, changed)
    return counts, files.failed


def rebuild_sessions(this: Job, events: DataFrame, own: DataFrame, touched: DataFrame, ids: DataFrame) -> None:
    """Sessions and links of the touched visitors, from the events that are not `own`."""
    links = iceberg.read(this.spark, IDENTITIES)
    gone = this.settle(erase.own_identities(links, ids))
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
        publish.replace_matching(this.spark, table, kept, f"{_WRITER}_{this.batch}", lambda _: None, ("batch",))
    return count


def finish(this: Job, requests: Sequence[Request], now: datetime) -> None:
    """Drops what the tables were before the last run, and forgets the requests' ids."""
    before = max(datetime.fromisoformat(request.erased_at) for request in requests if request.erased_at)
    for table in PERSONAL:
        upkeep.drop_references(this.spark, table, before)
        upkeep.expire(this.spark, table, before)
    landed.forget_checkpoints(this.fs, this.settings.hdfs.root, before)
    for request in requests:
        erasures.close(this.fs, this.settings.hdfs.root, request, now)


def main(argv: Sequence[str] | None = None) -> int:
    return job.run("erase_people", __doc__ or "", work, argv, job.any_batch)


if __name__ == "__main__":
    sys.exit(main())
