"""The native protocol: a JSON object with the field names of click_event.avsc is one event. Pure.

Required are event_type, occurred_at (RFC 3339 with a zone, or milliseconds since 1970) and anonymous_id (null for a
visitor who wants none). Fields that the contract lacks are kept as properties and flagged.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, ValidationError

from ingest import enrich
from ingest.errors import InvalidEvent
from ingest.events import ClickEvent, EventType, Page, Source, event_id, new_message_id, to_millis
from ingest.identity import MAX_ID
from ingest.protocols import Context

MAX_ITEM_ID = 2048  # a page's path can be one
MAX_PROPERTIES = 256
FUTURE_MS = 3_600_000  # a live event further ahead than this has an odd clock
PAST_MS = 30 * 86_400_000
_YEAR_1, _YEAR_9999 = -62_135_596_800_000, 253_402_300_799_999  # the range of every timestamp type downstream
_URL, _TITLE, _NAME, _VALUE = 8192, 1024, 256, 8192  # characters kept of free text


def parse_time(value: object) -> int:
    """Milliseconds since 1970 of an RFC 3339 string with its zone, or of a number. Raises ValueError."""
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value.upper())  # RFC 3339 allows t and z
        except ValueError:
            raise ValueError("is neither RFC 3339 nor milliseconds since 1970") from None
        if moment.tzinfo is None:
            raise ValueError("has no time zone")
        millis = to_millis(moment)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        if value != value or abs(value) > 1e15:
            raise ValueError("lies outside the years 1 to 9999")
        millis = round(value)
    else:
        raise ValueError("is neither RFC 3339 nor milliseconds since 1970")
    if not _YEAR_1 <= millis <= _YEAR_9999:
        raise ValueError("lies outside the years 1 to 9999")
    return millis


def _blank_is_none(value: object) -> object:
    return None if value == "" else value


_Time = Annotated[int, BeforeValidator(parse_time)]
_Id = Annotated[str, StringConstraints(min_length=1, max_length=MAX_ID)]
_OptionalId = Annotated[_Id | None, BeforeValidator(_blank_is_none)]
_ItemId = Annotated[Annotated[str, StringConstraints(max_length=MAX_ITEM_ID)] | None, BeforeValidator(_blank_is_none)]
_Currency = Annotated[
    Annotated[str, StringConstraints(pattern=r"^[A-Za-z]{3}$")] | None, BeforeValidator(_blank_is_none)
]
_Int32 = Annotated[int, Field(ge=0, le=2**31 - 1)]
_Finite = Annotated[float, Field(allow_inf_nan=False)]
_Names = Annotated[dict[_Id, str], Field(max_length=MAX_PROPERTIES)]


class _Page(BaseModel):
    model_config = ConfigDict(strict=True, extra="allow")

    url: str | None = None
    path: str | None = None
    referrer: str | None = None
    title: str | None = None


class _Payload(BaseModel):
    model_config = ConfigDict(strict=True, extra="allow")

    event_type: EventType
    occurred_at: _Time
    anonymous_id: _Id | None
    event_name: str | None = None
    message_id: _OptionalId = None
    sent_at: _Time | None = None
    sequence: Annotated[int, Field(ge=0, le=2**63 - 1)] = 0
    user_id: _OptionalId = None
    client_session_id: _OptionalId = None
    page: _Page | None = None
    campaign: _Names | None = None
    consent: Annotated[dict[_Id, bool], Field(max_length=MAX_PROPERTIES)] | None = None
    user_agent: str | None = None
    sdk: Annotated[str, StringConstraints(max_length=256)] | None = None
    ip: str | None = None
    item_id: _ItemId = None
    list_id: _OptionalId = None
    position: _Int32 | None = None
    propensity: Annotated[float, Field(ge=0, le=1)] | None = None
    impression_id: _OptionalId = None
    model_version: _OptionalId = None
    order_id: _OptionalId = None
    value: _Finite | None = None
    currency: _Currency = None
    quantity: _Int32 | None = None
    experiments: _Names | None = None
    properties: Annotated[dict[_Id, Any], Field(max_length=MAX_PROPERTIES)] | None = None


def parse(payload: Mapping[str, object], context: Context, index: int = 0) -> ClickEvent:
    """The event of a payload, the `index`-th of its message. Raises InvalidEvent, which names the field."""
    try:
        given = _Payload.model_validate(payload)
    except ValidationError as error:
        raise _invalid(error) from error
    flags: dict[str, None] = {}  # a set that keeps its order
    message_id = given.message_id or new_message_id()
    page = _page(given.page or _Page(), flags)
    user_agent = given.user_agent or (None if context.run else context.user_agent)
    return ClickEvent(
        event_id=event_id(context.write_key, message_id, index),
        message_id=message_id,
        event_type=given.event_type,
        event_name=_clip(given.event_name, _NAME, flags),
        occurred_at=_occurred_at(given, context, flags),
        received_at=context.received_at,
        sequence=given.sequence,
        anonymous_id=given.anonymous_id,
        user_id=given.user_id,
        client_session_id=given.client_session_id,
        page=page,
        campaign=enrich.campaign(page.url) | _texts(given.campaign or {}, flags),
        device=enrich.device(user_agent),
        ip=_ip(given.ip, context),
        consent=given.consent or {},
        write_key=context.write_key,
        source=Source(context.protocol, given.sdk, context.run),
        item_id=given.item_id,
        list_id=given.list_id,
        position=given.position,
        propensity=given.propensity,
        impression_id=given.impression_id,
        model_version=given.model_version,
        order_id=given.order_id,
        value=given.value,
        currency=given.currency.upper() if given.currency else None,
        quantity=given.quantity,
        experiments=_texts(given.experiments or {}, flags),
        properties=_properties(given, flags),
        flags=tuple(flags),
    )


def _invalid(error: ValidationError) -> InvalidEvent:
    """The first problem; reasons never repeat what was sent, so that they can be counted."""
    first = error.errors(include_url=False, include_input=False)[0]
    reason = str(first["ctx"]["error"]) if first["type"] == "value_error" else first["msg"]
    return InvalidEvent(".".join(map(str, first["loc"])) or "event", reason[0].lower() + reason[1:])


def _occurred_at(given: _Payload, context: Context, flags: dict[str, None]) -> int:
    """The time corrected by the client's own clock, where it says when it sent; a run's history keeps its times."""
    if context.run:
        return given.occurred_at
    sent_at = context.sent_at if given.sent_at is None else given.sent_at
    occurred_at = given.occurred_at
    if sent_at is not None:
        occurred_at = context.received_at - (sent_at - occurred_at)
        if not _YEAR_1 <= occurred_at <= _YEAR_9999:
            raise InvalidEvent("sent_at", "corrects the time to outside the years 1 to 9999")
    if not context.received_at - PAST_MS <= occurred_at <= context.received_at + FUTURE_MS:
        flags["odd_clock"] = None
    return occurred_at


def _page(given: _Page, flags: dict[str, None]) -> Page:
    url = _clip(given.url, _URL, flags)
    path = _clip(given.path, MAX_ITEM_ID, flags) or (enrich.page_path(url) if url else None)
    return Page(
        url=url,
        path=path[:MAX_ITEM_ID] if path else None,
        referrer=_clip(given.referrer, _URL, flags),
        title=_clip(given.title, _TITLE, flags),
    )


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


def _properties(given: _Payload, flags: dict[str, None]) -> dict[str, str]:
    """Name -> JSON of the event's own properties and of every field that the contract lacks."""
    values: dict[str, Any] = dict(given.properties or {})
    unknown = dict(given.model_extra or {})
    if given.page is not None:
        unknown |= {f"page.{name}": value for name, value in (given.page.model_extra or {}).items()}
    for name, value in unknown.items():
        flags["unknown_field"] = None
        values[f"{name} (top level)" if name in values else name] = value
    if len(values) > MAX_PROPERTIES:
        raise InvalidEvent("properties", f"more than {MAX_PROPERTIES} of them")
    return {_name(name): _json(value, flags) for name, value in values.items()}


def _name(name: str) -> str:
    if len(name) > MAX_ID or not name:
        raise InvalidEvent("event", f"a field's name should have 1 to {MAX_ID} characters")
    return name.encode(errors="backslashreplace").decode()


def _json(value: Any, flags: dict[str, None]) -> str:
    """Compact JSON; what is too long becomes the string of its beginning."""
    if isinstance(value, str):
        value = _clip(value, _VALUE, flags)
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    if len(text) > 2 * _VALUE:
        text = json.dumps(_clip(text, _VALUE, flags), ensure_ascii=False)
    # A lone surrogate is legal in JSON as an escape, but not in UTF-8.
    return text if text.isascii() or text.encode(errors="ignore").decode() == text else json.dumps(value)


def _texts(values: Mapping[str, str], flags: dict[str, None]) -> dict[str, str]:
    return {name: _clip(value, _TITLE, flags) or "" for name, value in values.items()}


def _clip(value: str | None, limit: int, flags: dict[str, None]) -> str | None:
    if value is None or len(value) <= limit:
        return value
    flags["truncated"] = None
    return value[:limit]
