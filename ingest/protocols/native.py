"""The native protocol: a JSON object with the field names of click_event.avsc is one event. Pure.

Required are event_type, occurred_at (RFC 3339 with a zone, or milliseconds since 1970) and anonymous_id (null for a
visitor who wants none). Unknown fields become properties, and the event is flagged. Every other protocol's messages
become such payloads, so that one set of rules applies to all.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from json.encoder import encode_basestring
from math import isfinite
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta, ValidationError

from ingest.errors import InvalidEvent
from ingest.event import enrich
from ingest.event.context import Context
from ingest.event.event import ClickEvent, Device, EventType, Page, Source, event_id, new_message_id
from ingest.event.hints import AgentData
from ingest.event.identity import MAX_ID
from ingest.event.times import YEAR_1, YEAR_9999, parse_time
from ingest.protocols.problems import first_problem
from ingest.protocols.protocol import Protocol, TimeFields

MAX_ITEM_ID = 2048  # a page's path can be one
MAX_PROPERTIES = 256
MAX_SDK = 256
FUTURE_MS = 3_600_000  # a live event further ahead than this has an odd clock
PAST_MS = 30 * 86_400_000
_SHORT = 512  # characters of cached texts, so that no sender can fill the memory
_URL, _TITLE, _NAME, _VALUE = 8192, 1024, 256, 8192  # characters kept of free text

_Text = TypeVar("_Text", str, str | None)
_Id = Annotated[str, Meta(min_length=1, max_length=MAX_ID)]
_OptionalId = Annotated[str, Meta(max_length=MAX_ID)] | None  # "" is none as well
_Int32 = Annotated[int, Meta(ge=0, le=2**31 - 1)]
_Names = Annotated[dict[_Id, str], Meta(max_length=MAX_PROPERTIES)]


class _Page(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    url: str | None = None
    path: str | None = None
    referrer: str | None = None
    title: str | None = None


class _Payload(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, gc=False):
    """The fields of a native payload. Times are anything that `parse_time` accepts."""

    event_type: EventType
    occurred_at: Any
    anonymous_id: _Id | None
    event_name: str | None = None
    message_id: _OptionalId = None
    sent_at: Any = None
    sequence: Annotated[int, Meta(ge=0, le=2**63 - 1)] = 0
    user_id: _OptionalId = None
    client_session_id: _OptionalId = None
    page: _Page | None = None
    campaign: _Names | None = None
    consent: Annotated[dict[_Id, bool], Meta(max_length=MAX_PROPERTIES)] | None = None
    user_agent: str | None = None
    user_agent_data: AgentData | None = None
    ip: str | None = None
    sdk: Annotated[str, Meta(max_length=MAX_SDK)] | None = None
    item_id: Annotated[str, Meta(max_length=MAX_ITEM_ID)] | None = None
    list_id: _OptionalId = None
    position: _Int32 | None = None
    propensity: Annotated[float, Meta(ge=0, le=1)] | None = None
    impression_id: _OptionalId = None
    model_version: _OptionalId = None
    order_id: _OptionalId = None
    value: float | None = None
    currency: Annotated[str, Meta(pattern=r"^(?:[A-Za-z]{3})?\Z")] | None = None
    quantity: _Int32 | None = None
    experiments: _Names | None = None
    properties: Annotated[dict[_Id, Any], Meta(max_length=MAX_PROPERTIES)] | None = None


# msgspec 0.22 completes a Struct's type information at its first use, and crashes (segmentation fault) if a second
# thread uses it meanwhile; so the first use is here.
msgspec.json.Decoder(_Payload)


def parse(payload: Mapping[str, object], context: Context, index: int = 0) -> ClickEvent:
    """The event of a payload, the `index`-th of its message. Raises InvalidEvent, which names the field."""
    unknown: dict[str, object] = {}
    try:
        given = msgspec.convert(payload, _Payload)
    except ValidationError:
        given, unknown = _with_unknown(payload)
    flags: dict[str, None] = dict.fromkeys(context.flags)  # a set that keeps its order
    message_id = given.message_id or new_message_id()
    page = _NO_PAGE if given.page is None else _page(given.page, flags)
    campaign = enrich.campaign(page.url)
    if given.campaign:
        campaign = {**campaign, **_texts(given.campaign, flags)}
    if given.value is not None and not isfinite(given.value):
        raise InvalidEvent("value", "is no finite number")
    return ClickEvent(
        event_id=event_id(context.write_key, message_id, index),
        message_id=message_id,
        event_type=given.event_type,
        event_name=_clip(given.event_name, _NAME, flags),
        occurred_at=_occurred_at(given, context, flags),
        received_at=context.received_at,
        sequence=given.sequence,
        anonymous_id=given.anonymous_id,
        user_id=given.user_id or None,
        client_session_id=given.client_session_id or None,
        page=page,
        campaign=campaign,
        device=_device(given, context),
        ip=_ip(given.ip, context),
        consent=given.consent or {},
        write_key=context.write_key,
        source=Source(context.protocol, given.sdk or None, context.run),
        item_id=given.item_id or None,
        list_id=given.list_id or None,
        position=given.position,
        propensity=given.propensity,
        impression_id=given.impression_id or None,
        model_version=given.model_version or None,
        order_id=given.order_id or None,
        value=given.value,
        currency=given.currency.upper() if given.currency else None,
        quantity=given.quantity,
        experiments=_texts(given.experiments, flags) if given.experiments else {},
        properties=_properties(given.properties or {}, unknown, flags) if given.properties or unknown else {},
        flags=tuple(flags),
    )


_NO_PAGE = Page()
KNOWN = {field.name: field.type for field in msgspec.structs.fields(_Payload)}
_KNOWN_OF_PAGE = {field.name: field.type for field in msgspec.structs.fields(_Page)}
_REQUIRED = tuple(field.name for field in msgspec.structs.fields(_Payload) if field.required)


def _with_unknown(payload: Mapping[str, object]) -> tuple[_Payload, dict[str, object]]:
    """The known fields of a payload, and its unknown ones. Raises InvalidEvent."""
    known = {name: value for name, value in payload.items() if name in KNOWN}
    unknown = {name: value for name, value in payload.items() if name not in KNOWN}
    page = known.get("page")
    if isinstance(page, Mapping):
        known["page"] = {name: value for name, value in page.items() if name in _KNOWN_OF_PAGE}
        unknown |= {f"page.{name}": value for name, value in page.items() if name not in _KNOWN_OF_PAGE}
    try:
        return msgspec.convert(known, _Payload), unknown
    except ValidationError as error:
        raise first_problem(known, KNOWN, _REQUIRED) from error


def _time(name: str, value: object) -> int:
    try:
        return parse_time(value)
    except ValueError as error:
        raise InvalidEvent(name, str(error)) from error


def _occurred_at(given: _Payload, context: Context, flags: dict[str, None]) -> int:
    """The event's time, corrected by the client's clock if there is a sent_at: received_at - (sent_at - occurred_at).

    The times of a run are not corrected.
    """
    occurred_at = given.occurred_at
    if type(occurred_at) is not int or not YEAR_1 <= occurred_at <= YEAR_9999:
        occurred_at = _time("occurred_at", occurred_at)
    sent_at = context.sent_at if given.sent_at is None else _time("sent_at", given.sent_at)
    if context.run:
        if occurred_at > context.received_at + FUTURE_MS:
            flags["odd_clock"] = None
        return occurred_at
    if sent_at is not None:
        occurred_at = context.received_at - (sent_at - occurred_at)
        if not YEAR_1 <= occurred_at <= YEAR_9999:
            raise InvalidEvent("sent_at", "corrects the time to outside the years 1 to 9999")
    if not context.received_at - PAST_MS <= occurred_at <= context.received_at + FUTURE_MS:
        flags["odd_clock"] = None
    return occurred_at


def _page(given: _Page, flags: dict[str, None]) -> Page:
    url, path, referrer, title = given.url, given.path, given.referrer, given.title
    if (
        (url is None or len(url) <= _SHORT)
        and (path is None or len(path) <= _SHORT)
        and (referrer is None or len(referrer) <= _SHORT)
        and (title is None or len(title) <= _SHORT)
    ):
        return _short_page(url, path, referrer, title)
    url = _clip(url, _URL, flags)
    path = _clip(path, MAX_ITEM_ID, flags) or (enrich.page_path(url) if url else None)
    return Page(url, path[:MAX_ITEM_ID] if path else None, _clip(referrer, _URL, flags), _clip(title, _TITLE, flags))


@lru_cache(maxsize=4096)
def _short_page(url: str | None, path: str | None, referrer: str | None, title: str | None) -> Page:
    """The page, cached: many events share a page, and the encoder caches by object."""
    return Page(url, path or (enrich.page_path(url) if url else None), referrer, title)


def _device(given: _Payload, context: Context) -> Device:
    """The device by the event's own agent and hints, else the request's; a request's hints apply to its own agent."""
    of_request = None if context.run else context.user_agent
    agent = given.user_agent or of_request
    hints = context.hints if agent == of_request and agent is not None else None
    if given.user_agent_data is not None:
        hints = given.user_agent_data.hints().over(hints)
    return enrich.device(agent, hints)


def _ip(given: str | None, context: Context) -> str | None:
    address = given or (None if context.run else context.ip)
    if not address:
        return None
    try:
        return enrich.anonymize_ip(address) if context.anonymize_ip else enrich.normalize_ip(address)
    except ValueError:
        if given:
            raise InvalidEvent("ip", "is no IP address") from None
        return None


def _properties(own: Mapping[str, object], unknown: Mapping[str, object], flags: dict[str, None]) -> dict[str, str]:
    """Name -> JSON of the event's properties and of its unknown fields."""
    if unknown:
        flags["unknown_field"] = None
        own = dict(own)
        for name, value in unknown.items():
            own[f"{name} (top level)" if name in own else name] = value
        if len(own) > MAX_PROPERTIES:
            raise InvalidEvent("properties", f"more than {MAX_PROPERTIES} of them")
    return {_name(name): _json(value, flags) for name, value in own.items()}


def _name(name: str) -> str:
    if not 0 < len(name) <= MAX_ID:
        raise InvalidEvent("event", f"a field's name should have 1 to {MAX_ID} characters")
    return name if name.isascii() else name.encode(errors="backslashreplace").decode()


_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


def _json(value: object, flags: dict[str, None]) -> str:
    """Compact JSON; a value that is too long becomes a string of its beginning. Raises InvalidEvent for NaN."""
    if isinstance(value, str):
        text = encode_basestring(_clip(value, _VALUE, flags))
    elif isinstance(value, float) and isfinite(value):
        return repr(value)
    else:
        try:
            text = _encode(value)
        except ValueError:
            raise InvalidEvent("properties", "hold a number that is not finite") from None
    if len(text) > 2 * _VALUE:
        text = encode_basestring(_clip(text, _VALUE, flags))
    if text.isascii() or text.encode(errors="ignore").decode() == text:
        return text
    return json.dumps(json.loads(text))  # a lone surrogate is legal in JSON as an escape, but not in UTF-8


def _texts(values: dict[str, str], flags: dict[str, None]) -> dict[str, str]:
    if max(map(len, values.values())) <= _TITLE:
        return values
    return {name: _clip(value, _TITLE, flags) for name, value in values.items()}


def _clip(value: _Text, limit: int, flags: dict[str, None]) -> _Text:
    if value is None or len(value) <= limit:
        return value
    flags["truncated"] = None
    return value[:limit]


PROTOCOL = Protocol(
    "native", batch_path="/collect", time_fields=TimeFields(("occurred_at",), "sent_at", "json", required=True)
)
