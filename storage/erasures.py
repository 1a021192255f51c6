"""Requests to forget somebody, from the day they are made to the day on which nothing is found of them any more.

<root>/erasures/<id>.json        open: whom, since when, and what was done so far
<root>/erasures/done/<id>.json   the same without whom: what is left of a request when it is done
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from infra.errors import ClickstreamError
from ingest.erasure import People
from ingest.events import new_message_id, to_millis
from storage.errors import StorageError
from storage.hdfs import Hdfs


class NobodyNamed(ClickstreamError):  # noqa: N818 - the domain's own term
    """A request without any id."""


@dataclass(frozen=True)
class Request:
    """Whom to forget, until `requested_at`: what they do later is theirs again.

    `linked` are visitors who turned out to be them. `erased_at` is when a run last found something, or first looked,
    and `batch` the newest one then; None before that.
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
        """All anonymous ids that are to be forgotten."""
        return (*self.anonymous_ids, *self.linked)

    def with_linked(self, visitors: Iterable[str]) -> Request:
        """The request with these visitors too; what was linked once stays so, whatever becomes of the links."""
        found = (set(visitors) | set(self.linked)) - set(self.anonymous_ids)
        return replace(self, linked=tuple(sorted(found)))


def folder(root: str) -> str:
    return f"{root}/erasures"


def ask(fs: Hdfs, root: str, user_ids: Iterable[str], anonymous_ids: Iterable[str], now: datetime) -> Request:
    """Records a request. Raises NobodyNamed when it names nobody."""
    users, visitors = tuple(sorted(set(user_ids))), tuple(sorted(set(anonymous_ids)))
    if not all((*users, *visitors)) or not (users or visitors):
        raise NobodyNamed("a request needs a user_id or an anonymous_id, and none may be empty")
    request = Request(new_message_id(), now.isoformat(timespec="milliseconds"), users, visitors)
    save(fs, root, request)
    return request


def save(fs: Hdfs, root: str, request: Request) -> None:
    """Records what is known of an open request."""
    body = json.dumps(asdict(request), indent=1).encode()
    fs.write_atomically(f"{folder(root)}/{request.id}.json", body, overwrite=True)


def pending(fs: Hdfs, root: str) -> list[Request]:
    """The open requests, the oldest first. Raises StorageError for a file that is none."""
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
    """Forgets whom the request was about."""
    facts = {"id": request.id, "requested_at": request.requested_at, "erased_at": request.erased_at}
    body = json.dumps(facts | {"done_at": now.isoformat(timespec="milliseconds")}, indent=1).encode()
    fs.write_atomically(f"{folder(root)}/done/{request.id}.json", body, overwrite=True)
    fs.delete(f"{folder(root)}/{request.id}.json")


def done(fs: Hdfs, root: str) -> list[dict[str, Any]]:
    """What is left of the requests that are done, the oldest first."""
    path = f"{folder(root)}/done"
    return [json.loads(fs.read(f"{path}/{name}")) for name in fs.names(path) if not name.startswith("_")]


def people(requests: Iterable[Request], until: datetime, now: datetime) -> People:
    """All whom the requests name, with what they did up to `until` at most; clocks may differ by a day."""
    users: dict[str, int] = {}
    visitors: dict[str, int] = {}
    for request in requests:
        latest = to_millis(min(until, datetime.fromisoformat(request.requested_at)))
        for ids, into in ((request.user_ids, users), (request.visitors, visitors)):
            for each in ids:
                into[each] = max(latest, into.get(each, latest))
    return People(users, visitors, to_millis(now + timedelta(days=1)))
