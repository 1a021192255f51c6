"""Whose events are to be forgotten, and what is left of an event when it is nobody's. Pure.

The right to erasure (GDPR, article 17) is about persons, not about counts: so an erased event stays where it was, as if
it had come in anonymous mode and with less. What it tells of items, places in lists, models and money is kept.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

ERASED = "erased"  # flag of events
# What is null then, what is empty, and of which record all fields are null.
NULL = ("anonymous_id", "user_id", "client_session_id", "ip", "order_id")
EMPTY = ("campaign", "properties")
PAGE = ("url", "path", "referrer", "title")
# Under which messages name people, without punctuation.
_NAMES = {
    *("userid", "anonymousid", "visitorid", "clientid", "customerid", "memberid", "accountid", "deviceid"),
    *("distinctid", "uid", "duid", "nuid", "tnuid", "domainuserid", "networkuserid", "alias", "previousid"),
}
_TELLING = 8  # characters


@dataclass(frozen=True)
class People:
    """Ids, each with the time until which its events are to be forgotten, in milliseconds since 1970.

    `now`: what claims to be received later has a broken clock, and is forgotten too.
    """

    users: Mapping[str, int]
    visitors: Mapping[str, int]
    now: int

    @cached_property
    def ids(self) -> dict[str, int]:
        """Of both kinds; a visitor without anonymous id goes by the user's."""
        latest = dict(self.users)
        for visitor, until in self.visitors.items():
            latest[visitor] = max(until, latest.get(visitor, until))
        return latest

    @cached_property
    def needles(self) -> list[bytes]:
        """Without any of which no bytes are of these people: as UTF-8, in JSON, and in JSON within a JSON string."""
        found = set()
        for each in self.ids:
            escaped = json.dumps(each)[1:-1]
            texts = (each, escaped, json.dumps(escaped)[1:-1], json.dumps(each, ensure_ascii=False)[1:-1])
            found |= {text.encode() for text in texts}
        return sorted(found)

    def named_in(self, data: bytes) -> bool:
        """Whether any id occurs in the bytes: a quick no, and no certain yes."""
        return any(needle in data for needle in self.needles)

    def own(self, event: Mapping[str, Any]) -> bool:
        """Whether the event, as click_event.avsc has it, is theirs, of the time that they mean."""
        found = (self.users.get(event["user_id"]), self.visitors.get(event["anonymous_id"]))
        until = max((moment for moment in found if moment is not None), default=None)
        return until is not None and not until < event["received_at"] <= self.now

    def own_plain(self, appended_at: int, key: bytes | None, value: bytes | None) -> bool:
        """The same of a record that can't be read as an event: by its key, by an id in JSON under a name of ids, or by
        one of at least eight characters anywhere in it; shorter ones might be anything there."""
        told = self._told(value) if value is not None and self.named_in(value) else set()
        found = [until for each, until in self.ids.items() if key == each.encode() or each in told]
        return bool(found) and not max(found) < appended_at <= self.now

    def _told(self, value: bytes) -> set[str]:
        """Which ids the value tells."""
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
    """An event of any version as nobody's. A map is a dict or, as Arrow has it, a list of pairs."""
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
    """Gathers what stands under names of identifiers, and all texts; at any depth that JSON was read to."""
    if isinstance(value, dict):
        for inner, one in value.items():
            _walk(one, inner, named, texts)
    elif isinstance(value, list):
        for one in value:
            _walk(one, name, named, texts)
    elif value is not None and not isinstance(value, bool):
        texts.append(str(value))
        if "".join(filter(str.isalnum, name)).lower() in _NAMES:
            named.add(str(value))


def _escaped(text: str) -> str:
    """As it stands in JSON that is itself a text."""
    return json.dumps(text)[1:-1]
