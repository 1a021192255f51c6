"""Rejects stored in `clicks.rejected`: select them, fix them, and prepare them to be sent again. Pure.

Sending again is idempotent: a message without an id gets one derived from its record, so its event ids are the same
each time. Its time is corrected here by the sender's clock, as at its first arrival, and it is sent as a run, whose
times the collector takes as they are.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from ingest.errors import InvalidEvent
from ingest.event.rejected import REDACTED
from ingest.event.times import parse_time
from ingest.protocols import PROTOCOLS
from ingest.protocols.protocol import TimeFields

RUN = "reinject"  # of events that were live

_NAMESPACE = uuid.UUID("0d1f6a52-7f0e-5b8e-9a53-1f3f4c7f5a20")  # fixed for ever, as the derived ids follow from it
_NO_LONGER_KNOWN = {"ip", "$ip", "ip_address", "ua", "user_agent", "useragent", "$raw_user_agent", "user_agent_data"}


@dataclass(frozen=True, slots=True)
class StoredReject:
    """A record of `clicks.rejected`. Times are ms since 1970; `payload` is text if the message was no JSON.

    `messages`: the number of messages in the payload's array, refused together; 0 if it is a single message.
    """

    id: str
    reason: str
    field: str
    write_key: str
    protocol: str
    run: str | None
    received_at: int
    payload: Any
    sent_at: int | None = None
    line: int | None = None
    truncated: bool = False
    messages: int = 0

    @classmethod
    def read(cls, partition: int, offset: int, document: Mapping[str, Any]) -> StoredReject:
        """From a record's JSON; its id defaults to its partition and offset."""
        source = document.get("source") or {}
        return cls(
            id=document.get("id") or f"{partition}-{offset}",
            reason=str(document.get("reason")),
            field=str(document.get("field")),
            write_key=str(document.get("write_key") or ""),
            protocol=source.get("protocol") or "native",
            run=source.get("run"),
            received_at=int(document.get("received_at") or 0),
            payload=document.get("payload"),
            sent_at=document.get("sent_at"),
            line=document.get("line"),
            truncated=bool(document.get("truncated")),
            messages=int(document.get("messages") or 0),
        )

    def apart(self) -> Iterator[StoredReject]:
        """One reject per message, with derived ids."""
        if not self.messages or not isinstance(self.payload, list):
            yield self
            return
        for index, message in enumerate(self.payload):
            yield replace(self, id=f"{self.id}-{index}", payload=message, messages=0, truncated=False)


@dataclass(frozen=True, slots=True)
class Selection:
    """Criteria of rejects; None and empty match all. `reason`: a part of the reason, or of "field: reason"."""

    since: int | None = None
    reason: str | None = None
    field: str | None = None
    key: str | None = None
    protocol: str | None = None
    ids: tuple[str, ...] = ()

    def matches(self, stored: StoredReject) -> bool:
        return (
            (self.since is None or stored.received_at >= self.since)
            and (not self.reason or self.reason.lower() in f"{stored.field}: {stored.reason}".lower())
            and self.field in (None, stored.field)
            and self.key in (None, stored.write_key)
            and self.protocol in (None, stored.protocol)
            and (not self.ids or stored.id in self.ids)
        )


@dataclass(frozen=True, slots=True)
class Edit:
    """`target=value` sets (JSON, else text), `target=@source` moves, `target=` removes; a.b is b within a."""

    target: tuple[str, ...]
    source: tuple[str, ...] = ()
    value: Any = None
    removes: bool = False

    @classmethod
    def parse(cls, text: str) -> Edit:
        """Raises ValueError."""
        name, equals, given = text.partition("=")
        if not equals or not name or given == "@":
            raise ValueError("should be field=value, field=@other or field=")
        target = tuple(name.split("."))
        if not given:
            return cls(target, removes=True)
        if given.startswith("@"):
            return cls(target, source=tuple(given[1:].split(".")))
        try:
            return cls(target, value=json.loads(given))
        except ValueError:
            return cls(target, value=given)

    def apply(self, payload: Mapping[str, Any]) -> dict[str, Any]:
        """A changed copy; unchanged if the source is missing."""
        copy: dict[str, Any] = json.loads(json.dumps(payload))
        if self.removes:
            _take(copy, self.target)
            return copy
        value = self.value
        if self.source:
            value = _take(copy, self.source)
            if value is _MISSING:
                return copy
        inner = copy
        for name in self.target[:-1]:
            if not isinstance(inner.get(name), dict):
                inner[name] = {}
            inner = inner[name]
        inner[self.target[-1]] = value
        return copy


@dataclass(frozen=True, slots=True)
class Ready:
    """A message that can be sent: `message` is an object, or a line of an access log."""

    stored: StoredReject
    message: Any
    message_id: str


def prepare(stored: StoredReject, edits: Sequence[Edit] = ()) -> Ready:
    """The message to send again. Raises InvalidEvent if the record doesn't hold the whole message."""
    if stored.truncated:
        raise InvalidEvent("payload", "was too large to be kept whole")
    protocol = PROTOCOLS.get(stored.protocol)
    times = protocol.time_fields if protocol else None
    if protocol and times is None and isinstance(stored.payload, str):
        return Ready(stored, stored.payload, stored.id)
    if protocol is None or times is None:
        raise InvalidEvent("source.protocol", "is none that can be sent again")
    if not isinstance(stored.payload, dict):
        raise InvalidEvent("payload", "is no JSON object")
    message = _without_unknown(stored.payload)
    for edit in edits:
        message = edit.apply(message)
    id_field = protocol.sender_field("message_id")
    message_id = message.get(id_field)
    if not isinstance(message_id, str) or not message_id or message_id == REDACTED:
        message_id = message[id_field] = str(uuid.uuid5(_NAMESPACE, stored.id))
    return Ready(stored, _with_own_time(message, stored, times), message_id)


def _with_own_time(message: dict[str, Any], stored: StoredReject, times: TimeFields) -> dict[str, Any]:
    """The message with its time corrected as at its first arrival; an invalid time stays, and will be refused."""
    if times.exact and message.get(times.exact):
        return message
    name = next((one for one in times.occurred_at if message.get(one) is not None), None)
    if name is None:
        if times.required:
            return message
        return {**message, times.occurred_at[0]: _written(stored.received_at, times.form)}
    sent = message.get(times.sent_at)
    try:
        sent_at = stored.sent_at if sent is None else _millis(sent, times.form)
        if sent_at is None:
            return message
        corrected = _written(stored.received_at - (sent_at - _millis(message[name], times.form)), times.form)
    except (ValueError, OverflowError):
        return message
    return {**{key: value for key, value in message.items() if key != times.sent_at}, name: corrected}


def _millis(value: object, form: str) -> int:
    """Milliseconds since 1970, also of digits in a query string and of ISO 8601 without zone. Raises ValueError."""
    if isinstance(value, str) and value.lstrip("-").isdecimal():
        return parse_time(int(value))
    try:
        return parse_time(value)
    except ValueError:
        if form != "iso" or not isinstance(value, str):
            raise
        return parse_time(f"{value}Z")


def _written(millis: int, form: str) -> object:
    if form == "iso":
        moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=millis)
        return moment.isoformat(timespec="milliseconds")
    return str(millis) if form == "millis" else millis


def _without_unknown(value: Any) -> Any:
    """The payload without redacted addresses and agents, which would be invalid; other redacted values stay."""
    if isinstance(value, dict):
        return {
            name: _without_unknown(inner)
            for name, inner in value.items()
            if inner != REDACTED or name.lower() not in _NO_LONGER_KNOWN
        }
    return [_without_unknown(inner) for inner in value] if isinstance(value, list) else value


_MISSING = object()


def _take(payload: dict[str, Any], path: Sequence[str]) -> Any:
    """Removes and returns what is there, else _MISSING."""
    inner: Any = payload
    for name in path[:-1]:
        inner = inner.get(name) if isinstance(inner, dict) else None
    return inner.pop(path[-1], _MISSING) if isinstance(inner, dict) else _MISSING
