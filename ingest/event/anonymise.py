"""Erasure of people from events: which events are theirs, and what remains of an event. Pure.

The right to erasure (GDPR, article 17) covers persons, not counts. So an erased event stays in its place without the
fields that name a person; items, positions, models and money are kept.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ingest.event.event import Page
from ingest.event.fields import KINDS, PERSONAL

ERASED = "erased"  # flag of events
# Fields that become null, maps that become empty, and the page's fields, which become null.
EMPTY = tuple(name for name, of in KINDS.items() if name in PERSONAL and of == "map")
NULL = tuple(name for name in KINDS if name in PERSONAL and name not in (*EMPTY, "page"))
PAGE = Page.__struct_fields__
# Names under which messages hold ids of people, without punctuation.
ID_NAMES = {
    *("userid", "anonymousid", "visitorid", "clientid", "customerid", "memberid", "accountid", "deviceid"),
    *("distinctid", "uid", "duid", "nuid", "tnuid", "domainuserid", "networkuserid", "alias", "previousid"),
}
_TELLING = 8  # characters


@dataclass(frozen=True)
class People:
    """Ids to erase, each with the time until which its events are erased, in milliseconds since 1970.

    `now`: an event received later than that has a broken clock, and is erased too.
    """

    users: Mapping[str, int]
    visitors: Mapping[str, int]
    now: int

    @cached_property
    def ids(self) -> dict[str, int]:
        """Ids of both kinds: an event without anonymous id has the user's as its visitor id."""
        latest = dict(self.users)
        for visitor, until in self.visitors.items():
            latest[visitor] = max(until, latest.get(visitor, until))
        return latest

    @cached_property
    def needles(self) -> list[bytes]:
        """Byte strings of which any record of these people has one: ids in UTF-8, in JSON, in nested JSON."""
        found = set()
        for each in self.ids:
            escaped = json.dumps(each)[1:-1]
            texts = (each, escaped, json.dumps(escaped)[1:-1], json.dumps(each, ensure_ascii=False)[1:-1])
            found |= {text.encode() for text in texts}
        return sorted(found)

    def named_in(self, data: bytes) -> bool:
        """Whether any id occurs in the bytes: False is certain, True has to be checked."""
        return any(needle in data for needle in self.needles)

    def own(self, event: Mapping[str, Any]) -> bool:
        """Whether the event (a record of click_event.avsc) is theirs and was received in time to be erased."""
        found = (self.users.get(event["user_id"]), self.visitors.get(event["anonymous_id"]))
        until = max((moment for moment in found if moment is not None), default=None)
        return until is not None and not until < event["received_at"] <= self.now

    def own_plain(self, appended_at: int, key: bytes | None, value: bytes | None) -> bool:
        """The same for a record that can't be decoded: by its key, by an id under a name in ID_NAMES, or by an id of at
        least eight characters anywhere; shorter ones would match by chance."""
        told = self._told(value) if value is not None and self.named_in(value) else set()
        found = [until for each, until in self.ids.items() if key == each.encode() or each in told]
        return bool(found) and not max(found) < appended_at <= self.now

    def _told(self, value: bytes) -> set[str]:
        """The ids that the value holds."""
        try:
            document = json.loads(value)
        except (ValueError, RecursionError):
            document = value.decode(errors="replace")
        named: set[str] = set()
        texts: list[str] = []
        _walk(document, "", named, texts)
        anywhere = "\n".join(texts)
        long = {each for each in self.ids if len(each) >= _TELLING and (each in anywhere or _escaped(each) in anywhere)}
        return long | (named & self.ids.keys())


def anonymised(event: Mapping[str, Any]) -> dict[str, Any]:
    """An event of any version without what names a person. A map is a dict, or a list of pairs as in Arrow."""
    left = dict(event)
    left.update({name: None for name in NULL if name in left})
    left.update({name: type(left[name])() for name in EMPTY if left.get(name) is not None})
    if left.get("page") is not None:
        left["page"] = dict.fromkeys(left["page"])
    left["message_id"] = left["event_id"]
    if "flags" in left and ERASED not in (left["flags"] or ()):
        left["flags"] = [*(left["flags"] or ()), ERASED]
    return left


def _walk(value: Any, name: str, named: set[str], texts: list[str]) -> None:
    """Collects the values under ID_NAMES into `named`, and all texts into `texts`, at any depth."""
    if isinstance(value, dict):
        for inner, one in value.items():
            _walk(one, inner, named, texts)
    elif isinstance(value, list):
        for one in value:
            _walk(one, name, named, texts)
    elif value is not None and not isinstance(value, bool):
        texts.append(str(value))
        if "".join(filter(str.isalnum, name)).lower() in ID_NAMES:
            named.add(str(value))


def _escaped(text: str) -> str:
    """The text as it appears in JSON that is itself a JSON string."""
    return json.dumps(text)[1:-1]
