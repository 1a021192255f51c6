"""What `clicks.rejected` keeps, chosen, mended and made ready to be sent again. Pure.

Sending again is harmless however often it is done: a message without an id gets one that follows from its record, so
that the collector gives it the same event ids each time. Its times stay those of its first arrival: what the sender's
clock said is corrected here, and it is sent as a run, of which the collector takes times as they are.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from ingest.errors import InvalidEvent
from ingest.protocols.native import parse_time
from ingest.rejected import REDACTED

RUN = "reinject"  # of events that were live

_NAMESPACE = uuid.UUID("0d1f6a52-7f0e-5b8e-9a53-1f3f4c7f5a20")  # fixed for ever, as the derived ids follow from it
_NO_LONGER_KNOWN = {"ip", "$ip", "ip_address", "ua", "user_agent", "useragent", "$raw_user_agent", "user_agent_data"}


@dataclass(frozen=True, slots=True)
class Fields:
    """What a protocol calls a message's id, its time (the first that is there counts) and when it was sent."""

    message_id: str
    times: tuple[str, ...]
    sent_at: str
    form: Literal["json", "millis", "iso"]  # of times


FIELDS = {
    "native": Fields("message_id", ("occurred_at",), "sent_at", "json"),
    "pixel": Fields("message_id", ("occurred_at",), "sent_at", "millis"),
    "segment": Fields("messageId", ("originalTimestamp", "timestamp"), "sentAt", "iso"),
    "posthog": Fields("uuid", ("timestamp",), "sent_at", "iso"),
    "snowplow": Fields("eid", ("dtm",), "stm", "millis"),
}


@dataclass(frozen=True, slots=True)
class Kept:
    """A record of the topic. Times are ms since 1970; `payload` is text where the message was no JSON.

    `messages`: the payload is an array of so many, which were refused together; 0 where it is one message.
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
    def read(cls, partition: int, offset: int, document: Mapping[str, Any]) -> Kept:
        """From a record's JSON; one that says no id is known by its place."""
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

    def apart(self) -> Iterator[Kept]:
        """A record for each message; their ids are the same each time."""
        if not self.messages or not isinstance(self.payload, list):
            yield self
            return
        for index, message in enumerate(self.payload):
            yield replace(self, id=f"{self.id}-{index}", payload=message, messages=0, truncated=False)


@dataclass(frozen=True, slots=True)
class Selection:
    """Which records; None and empty choose all. `reason` is a part of it, or of "field: reason"."""

    since: int | None = None
    reason: str | None = None
    field: str | None = None
    key: str | None = None
    protocol: str | None = None
    ids: tuple[str, ...] = ()

    def matches(self, kept: Kept) -> bool:
        return (
            (self.since is None or kept.received_at >= self.since)
            and (not self.reason or self.reason.lower() in f"{kept.field}: {kept.reason}".lower())
            and self.field in (None, kept.field)
            and self.key in (None, kept.write_key)
            and self.protocol in (None, kept.protocol)
            and (not self.ids or kept.id in self.ids)
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
        """A changed copy; where a source is missing, nothing changes."""
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

    kept: Kept
    message: Any
    message_id: str


def prepare(kept: Kept, edits: Sequence[Edit] = ()) -> Ready:
    """The message as it is sent again. Raises InvalidEvent where the record doesn't hold enough of it."""
    if kept.truncated:
        raise InvalidEvent("payload", "was too large to be kept whole")
    if kept.protocol == "access_log" and isinstance(kept.payload, str):
        return Ready(kept, kept.payload, kept.id)
    fields = FIELDS.get(kept.protocol)
    if fields is None:
        raise InvalidEvent("source.protocol", "is none that can be sent again")
    if not isinstance(kept.payload, dict):
        raise InvalidEvent("payload", "is no JSON object")
    message = _without_unknown(kept.payload)
    for edit in edits:
        message = edit.apply(message)
    message_id = message.get(fields.message_id)
    if not isinstance(message_id, str) or not message_id or message_id == REDACTED:
        message_id = message[fields.message_id] = str(uuid.uuid5(_NAMESPACE, kept.id))
    return Ready(kept, _with_own_time(message, kept, fields), message_id)


def _with_own_time(message: dict[str, Any], kept: Kept, fields: Fields) -> dict[str, Any]:
    """Its time as the collector would have corrected it then; one that is no time is left to be refused."""
    if message.get("ttm"):  # Snowplow's true time
        return message
    name = next((one for one in fields.times if message.get(one) is not None), None)
    if name is None:
        if kept.protocol == "native":
            return message  # which has to say it
        return {**message, fields.times[0]: _written(kept.received_at, fields.form)}
    sent = message.get(fields.sent_at)
    try:
        sent_at = kept.sent_at if sent is None else _millis(sent, fields.form)
        if sent_at is None:
            return message
        corrected = _written(kept.received_at - (sent_at - _millis(message[name], fields.form)), fields.form)
    except (ValueError, OverflowError):
        return message
    return {**{key: value for key, value in message.items() if key != fields.sent_at}, name: corrected}


def _millis(value: object, form: str) -> int:
    """Also where a query string holds the number, or ISO 8601 no zone. Raises ValueError."""
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
    """Addresses and agents that were redacted are missing now, not wrong; other redacted values stay as they are."""
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
