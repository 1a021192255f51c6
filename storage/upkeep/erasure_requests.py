"""Requests to erase a person, open until a run finds nothing of that person any more.

<root>/erasures/<id>.json        an open request: the person's ids, when it was made, what was done so far
<root>/erasures/done/<id>.json   a closed request, without the ids
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from infra.errors import ClickstreamError
from ingest.event.anonymise import People
from ingest.event.event import new_message_id, to_millis
from storage.errors import StorageError
from storage.hdfs import Hdfs


class NobodyNamed(ClickstreamError):
    """A request without any id."""


@dataclass(frozen=True)
class Request:
    """Whose events up to `requested_at` are to be erased; what they do later is not.

    `linked`: anonymous ids that were found to be the same person. `erased_at`: when a run last found something, or ran
    first; `batch`: the newest batch at that time. Both are None before the first run.
    """

    id: str
    requested_at: str
    user_ids: tuple[str, ...] = ()
    anonymous_ids: tuple[str, ...] = ()
    linked: tuple[str, ...] = ()
    erased_at: str | None = None
    batch: int | None = None

    @property
    def visitors(self) -> tuple[str, ...]:
        """All anonymous ids of the request."""
        return (*self.anonymous_ids, *self.linked)

    def with_linked(self, visitors: Iterable[str]) -> Request:
        """The request with these visitors linked, too; what was linked once stays linked."""
        found = (set(visitors) | set(self.linked)) - set(self.anonymous_ids)
        return replace(self, linked=tuple(sorted(found)))


def folder(root: str) -> str:
    return f"{root}/erasures"


def ask(fs: Hdfs, root: str, user_ids: Iterable[str], anonymous_ids: Iterable[str], now: datetime) -> Request:
    """Stores a new request. Raises NobodyNamed if it has no id, or an empty one."""
    users, visitors = tuple(sorted(set(user_ids))), tuple(sorted(set(anonymous_ids)))
    if not all((*users, *visitors)) or not (users or visitors):
        raise NobodyNamed("a request needs a user_id or an anonymous_id, and none may be empty")
    request = Request(new_message_id(), now.isoformat(timespec="milliseconds"), users, visitors)
    save(fs, root, request)
    return request


def save(fs: Hdfs, root: str, request: Request) -> None:
    """Stores an open request."""
    body = json.dumps(asdict(request), indent=1).encode()
    fs.write_atomically(f"{folder(root)}/{request.id}.json", body, overwrite=True)


def pending(fs: Hdfs, root: str) -> list[Request]:
    """The open requests, oldest first. Raises StorageError for a file that can't be parsed."""
    found = []
    for name in fs.names(folder(root)):
        if name.endswith(".json") and not name.startswith("_"):
            path = f"{folder(root)}/{name}"
            try:
                fields = json.loads(fs.read(path))
                tuples = {key: tuple(value) for key, value in fields.items() if isinstance(value, list)}
                found.append(Request(**fields | tuples))
            except (ValueError, TypeError) as error:
                raise StorageError(path, f"is no request: {error}") from error
    return found


def close(fs: Hdfs, root: str, request: Request, now: datetime) -> None:
    """Closes a request and deletes its ids."""
    facts = {"id": request.id, "requested_at": request.requested_at, "erased_at": request.erased_at}
    body = json.dumps(facts | {"done_at": now.isoformat(timespec="milliseconds")}, indent=1).encode()
    fs.write_atomically(f"{folder(root)}/done/{request.id}.json", body, overwrite=True)
    fs.delete(f"{folder(root)}/{request.id}.json")


def done(fs: Hdfs, root: str) -> list[dict[str, Any]]:
    """The closed requests, oldest first."""
    path = f"{folder(root)}/done"
    return [json.loads(fs.read(f"{path}/{name}")) for name in fs.names(path) if not name.startswith("_")]


def people(requests: Iterable[Request], until: datetime, now: datetime) -> People:
    """The people of these requests; events after `until` are left out. Clocks may differ by a day."""
    users: dict[str, int] = {}
    visitors: dict[str, int] = {}
    for request in requests:
        latest = to_millis(min(until, datetime.fromisoformat(request.requested_at)))
        for ids, into in ((request.user_ids, users), (request.visitors, visitors)):
            for each in ids:
                into[each] = max(latest, into.get(each, latest))
    return People(users, visitors, to_millis(now + timedelta(days=1)))
