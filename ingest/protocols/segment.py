"""Segment's protocol, which RudderStack's trackers speak too: a message -> native payloads. Pure.

| message                              | native                                                                     |
| ------------------------------------ | -------------------------------------------------------------------------- |
| type page, screen                    | page_view; `name` is event_name, properties.url … the page                 |
| type track                           | by `event`, see commerce.py                                                |
| type identify, group, alias          | identify; traits, groupId and previousId are properties                    |
| messageId, anonymousId, userId       | message_id, anonymous_id, user_id                                          |
| originalTimestamp, else timestamp    | occurred_at, corrected by sentAt (the message's, else the batch's)         |
| context.page, .userAgent, .ip        | page, user_agent, ip                                                       |
| context.userAgentData                | user_agent_data; it stays a property as well                               |
| context.campaign                     | campaign (`name` is campaign)                                              |
| context.library                      | sdk                                                                        |
| context.sessionId                    | client_session_id                                                          |
| context.consent.categoryPreferences  | consent                                                                    |
| context.consentManagement            | consent: allowedConsentIds true, deniedConsentIds false                    |
| the rest                             | properties `context.…`, `message.…`, unless null or empty                  |
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ingest.errors import InvalidEvent
from ingest.event import hints
from ingest.event.context import Context
from ingest.protocols import bodies, commerce, values
from ingest.protocols.protocol import WRITE_KEYS, Answer, Protocol, Route, TimeFields, TrackerRequest

# The sender's names of fields that the native parser may refuse.
FIELDS = {
    "message_id": "messageId",
    "anonymous_id": "anonymousId",
    "user_id": "userId",
    "occurred_at": "timestamp",
    "sent_at": "sentAt",
    "client_session_id": "context.sessionId",
    "user_agent": "context.userAgent",
    "ip": "context.ip",
    "campaign": "context.campaign",
    "consent": "context.consent",
    "sdk": "context.library",
    "event_name": "event",
    "item_id": "properties.product_id",
    "list_id": "properties.list_id",
    "order_id": "properties.order_id",
}
KINDS = ("page", "screen", "track", "identify", "group", "alias")

_MESSAGE = (
    "type", "event", "name", "messageId", "anonymousId", "userId", "timestamp", "originalTimestamp", "sentAt",
    "context", "properties", "traits", "writeKey", "receivedAt",
)  # fmt: skip
_CONTEXT = ("page", "campaign", "userAgent", "ip", "library", "sessionId", "consent", "consentManagement")
_PAGE = ("url", "referrer", "title")


def read(message: Mapping[str, Any], context: Context) -> list[dict[str, Any]]:
    """The native payloads of a message, one or more. Raises InvalidEvent, which names Segment's field."""
    kind = message.get("type")
    if kind not in KINDS:
        raise InvalidEvent("type", "is missing" if kind is None else f"is none of {', '.join(KINDS)}")
    about = values.mapping(message.get("context"), "context")
    page, of_page = _page(message, about)
    if kind == "track":
        name = message.get("event")
        if not isinstance(name, str) or not name:
            raise InvalidEvent("event", "is missing" if name in (None, "") else "is no string")
        properties = values.mapping(message.get("properties"), "properties")
        events = [fields | {"event_name": name} for fields in commerce.read(name, properties)]
    elif kind in ("page", "screen"):
        properties = values.mapping(message.get("properties"), "properties")
        own = {key: value for key, value in properties.items() if not _is_page(key, value, page)}
        name = values.text(message.get("name"), "name")
        events = [{"event_type": "page_view", "event_name": name, "properties": own}]
    else:
        traits = values.mapping(_traits(message, about), "traits")
        properties = values.join(traits, values.mapping(message.get("properties"), "properties"))
        events = [
            {"event_type": "identify", "event_name": None if kind == "identify" else kind, "properties": properties}
        ]
    common = _common(message, about, context) | {"page": page}
    left = _left(message, about, kind) | of_page
    return [common | event | {"properties": values.join(event["properties"], left)} for event in events]


def _common(message: Mapping[str, Any], about: Mapping[str, Any], context: Context) -> dict[str, Any]:
    occurred_at = values.millis(message.get("originalTimestamp"), "originalTimestamp")
    if occurred_at is None:
        occurred_at = values.millis(message.get("timestamp"), "timestamp")
    sent_at = values.millis(message.get("sentAt"), "sentAt")
    library = values.mapping(about.get("library"), "context.library")
    common: dict[str, Any] = {
        "message_id": values.text(message.get("messageId"), "messageId"),
        "anonymous_id": values.text(message.get("anonymousId"), "anonymousId"),
        "user_id": values.text(message.get("userId"), "userId"),
        "client_session_id": values.loose_text(about.get("sessionId")),
        "occurred_at": context.received_at if occurred_at is None else occurred_at,
        "sent_at": context.received_at if occurred_at is None else sent_at,
        "user_agent": values.loose_text(about.get("userAgent")),
        "user_agent_data": hints.readable(about.get("userAgentData")),
        "ip": values.ip(about.get("ip")),
        "campaign": _campaign(about),
        "consent": _consent(about),
        "sdk": values.sdk(library.get("name"), library.get("version")),
    }
    return common


def _page(message: Mapping[str, Any], about: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The page, from a page call's properties or from the context, and the context's other fields of it."""
    given = values.mapping(about.get("page"), "context.page")
    own = message.get("properties") if message.get("type") == "page" else None
    page: dict[str, Any] = {}
    for name in _PAGE:
        for source in (own, given):
            given_here = source.get(name) if isinstance(source, Mapping) else None
            if name not in page and isinstance(given_here, str) and given_here not in ("", "$direct"):
                page[name] = given_here
    if "url" not in page and isinstance(given.get("path"), str):
        page["path"] = given["path"]
    left = {name: value for name, value in given.items() if not _is_page(name, value, page)}
    return page, values.rest(left, (), "context.page.")


def _is_page(name: str, value: object, page: Mapping[str, str]) -> bool:
    """Whether the page holds the value already; path and query are in its URL."""
    if name in ("path", "search"):
        return isinstance(value, str) and value in (page.get("url") or page.get("path", ""))
    return name in _PAGE and page.get(name) == value


def _traits(message: Mapping[str, Any], about: Mapping[str, Any]) -> Any:
    """The traits; RudderStack's trackers for browsers put those of identify into the context."""
    return about.get("traits") if message["type"] == "identify" and not message.get("traits") else message.get("traits")


def _campaign(about: Mapping[str, Any]) -> dict[str, str]:
    given = values.mapping(about.get("campaign"), "context.campaign")
    texts = {name: values.loose_text(value) for name, value in given.items() if name}
    return {"campaign" if name == "name" else name: value for name, value in texts.items() if value is not None}


def _consent(about: Mapping[str, Any]) -> dict[str, bool]:
    preferences = values.mapping(about.get("consent"), "context.consent").get("categoryPreferences")
    consent = {
        name: value
        for name, value in values.mapping(preferences, "context.consent.categoryPreferences").items()
        if name and isinstance(value, bool)
    }
    managed = values.mapping(about.get("consentManagement"), "context.consentManagement")
    for key, given in (("allowedConsentIds", True), ("deniedConsentIds", False)):
        ids = managed.get(key)
        if isinstance(ids, list):
            consent |= {name: given for name in ids if isinstance(name, str) and name}
    return consent


def _left(message: Mapping[str, Any], about: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """Properties of everything that has no field of its own."""
    used = (*_CONTEXT, "traits") if kind == "identify" and not message.get("traits") else _CONTEXT
    left = values.rest(about, used, "context.")
    for name in ("consent", "consentManagement", "library"):
        more = values.mapping(about.get(name), f"context.{name}")
        read = ("categoryPreferences", "allowedConsentIds", "deniedConsentIds", "name", "version")
        left |= values.rest(more, read, f"context.{name}.")
    preferences = values.mapping(about.get("consent"), "").get("categoryPreferences")
    given = [name for name, value in values.mapping(preferences, "").items() if isinstance(value, bool)]
    left |= values.rest(values.mapping(preferences, ""), given, "context.consent.")
    for name, convert in (("userAgent", values.loose_text), ("ip", values.ip), ("sessionId", values.loose_text)):
        if convert(about.get(name)) is None:
            left |= values.rest({name: about.get(name)}, (), "context.")
    texts = [name for name, value in values.mapping(about.get("campaign"), "").items() if values.loose_text(value)]
    left |= values.rest(values.mapping(about.get("campaign"), ""), texts, "context.campaign.")
    for name in ("previousId", "groupId", "category"):
        if message.get(name) not in (None, ""):
            left[name] = message[name]
    left |= values.rest(message, (*_MESSAGE, "previousId", "groupId", "category"), "message.")
    if kind == "screen":
        left["message.type"] = kind
    if kind not in ("identify", "group", "alias") and message.get("traits"):
        left["message.traits"] = message["traits"]
    if message.get("originalTimestamp") and message.get("timestamp") not in (None, message["originalTimestamp"]):
        left["message.timestamp"] = message["timestamp"]
    return left


def _batch(request: TrackerRequest) -> list[Any]:
    return bodies.batch(request.document, request.max_bytes)


def _message_of(kind: str) -> Callable[[TrackerRequest], list[Any]]:
    def message(request: TrackerRequest) -> list[Any]:
        return [{"type": kind} | {name: value for name, value in request.document.items() if name not in WRITE_KEYS}]

    return message


def _answer(account: Mapping[str, object]) -> Answer:
    return Answer({"success": True, **account})


_BATCH_PATHS = ("/v1/batch", "/v1/import", "/v1/b", "/beacon/v1/batch")
PROTOCOL = Protocol(
    "segment",
    read,
    FIELDS,
    routes=(
        *(Route(path, _batch, _answer, sent_at="sentAt") for path in _BATCH_PATHS),
        *(
            Route(f"/v1/{name}", _message_of(kind), _answer, is_single=True)
            for kind in KINDS
            for name in (kind, kind[0])
        ),
    ),
    time_fields=TimeFields(("originalTimestamp", "timestamp"), "sentAt", "iso"),
    batch_path="/v1/batch",
)
