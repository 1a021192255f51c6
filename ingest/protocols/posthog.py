"""PostHog's capture protocol: an event of a batch -> native payloads. Pure.

| event                                        | becomes                                                         |
| -------------------------------------------- | --------------------------------------------------------------- |
| $pageview, $screen                           | `page_view`                                                     |
| $autocapture of a click                      | `click`                                                         |
| $identify, $set, $groupidentify, $create_alias | `identify`; the alias is user_id, the id before it previousId |
| the names in commerce.py                     | as there                                                        |
| all others                                   | `custom`                                                        |

uuid is message_id; $device_id, else $anon_distinct_id, is anonymous_id; distinct_id is user_id, unless it is the
device's, or the event makes no person ($process_person_profile false): then it is anonymous_id. timestamp, corrected by
sent_at: occurred_at. Of the properties $current_url, $pathname, $referrer, title: page; $session_id: client_session_id;
$raw_user_agent, $ip, $lib/$lib_version: user_agent, ip, sdk; $feature/x: experiments. All others stay properties.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ingest.errors import InvalidEvent
from ingest.event.context import Context
from ingest.protocols import bodies, commerce, values
from ingest.protocols.protocol import Answer, Protocol, Route, TimeFields, TrackerRequest

FIELDS = {
    "message_id": "uuid",
    "anonymous_id": "distinct_id",
    "user_id": "distinct_id",
    "occurred_at": "timestamp",
    "client_session_id": "properties.$session_id",
    "user_agent": "properties.$raw_user_agent",
    "ip": "properties.$ip",
    "sdk": "properties.$lib",
    "page": "properties.$current_url",
    "experiments": "properties.$feature",
    "event_name": "event",
    "item_id": "properties.product_id",
    "list_id": "properties.list_id",
    "order_id": "properties.order_id",
}

_TYPES = {
    "$pageview": "page_view",
    "$screen": "page_view",
    "$identify": "identify",
    "$set": "identify",
    "$groupidentify": "identify",
    "$create_alias": "identify",
}
_PAGE = {"$current_url": "url", "$referrer": "referrer", "title": "title"}
_NO_REFERRER = "$direct"
_EVENT = ("event", "properties", "distinct_id", "timestamp", "uuid", "messageId")
_FEATURE = "$feature/"


def read(message: Mapping[str, Any], context: Context) -> list[dict[str, Any]]:
    """The native payloads of an event, one or more. Raises InvalidEvent, which names PostHog's field."""
    name = message.get("event")
    if not isinstance(name, str) or not name:
        raise InvalidEvent("event", "is missing" if name in (None, "") else "is no string")
    properties = dict(values.mapping(message.get("properties"), "properties"))
    common = _common(message, properties, context)
    left = {
        key if key.startswith("$") else f"message.{key}": value
        for key, value in values.rest(message, _EVENT, "").items()
    }
    if name in _TYPES:
        events: list[dict[str, Any]] = [{"event_type": _TYPES[name], "properties": properties}]
    elif name == "$autocapture" and properties.get("$event_type") == "click":
        events = [{"event_type": "click", "properties": properties}]
    else:
        own = {key: value for key, value in properties.items() if not key.startswith("$")}
        events = commerce.read(name, own)
        left |= {key: value for key, value in properties.items() if key.startswith("$")}
    return [
        common | event | {"event_name": name, "properties": values.join(event["properties"], left)} for event in events
    ]


def _common(message: Mapping[str, Any], properties: dict[str, Any], context: Context) -> dict[str, Any]:
    """Fields of all events of the message; removes the properties that have a field."""
    anonymous_id, user_id = _ids(message, properties)
    if message["event"] == "$create_alias" and values.loose_text(properties.get("alias")):
        properties["previousId"] = anonymous_id or user_id
        anonymous_id, user_id = None, properties.pop("alias")
    occurred_at = values.millis(message.get("timestamp"), "timestamp")
    page = {
        field: properties.pop(name)
        for name, field in _PAGE.items()
        if isinstance(properties.get(name), str) and properties[name] != _NO_REFERRER
    }
    if "url" not in page and isinstance(properties.get("$pathname"), str):
        page["path"] = properties.pop("$pathname")
    ip = values.ip(properties.get("$ip"))
    if ip:
        del properties["$ip"]
    experiments = {name: properties.pop(name) for name in list(properties) if _is_variant(name, properties[name])}
    return {
        "message_id": values.text(message.get("uuid") or message.get("messageId"), "uuid"),
        "anonymous_id": anonymous_id,
        "user_id": user_id,
        "client_session_id": _pop_text(properties, "$session_id"),
        "occurred_at": context.received_at if occurred_at is None else occurred_at,
        "sent_at": context.received_at if occurred_at is None else None,
        "page": page,
        "user_agent": _pop_text(properties, "$raw_user_agent"),
        "ip": ip,
        "sdk": values.sdk(_pop_text(properties, "$lib"), _pop_text(properties, "$lib_version")),
        "experiments": {
            name.removeprefix(_FEATURE): value if isinstance(value, str) else str(value).lower()
            for name, value in experiments.items()
        },
    }


def _ids(message: Mapping[str, Any], properties: dict[str, Any]) -> tuple[str | None, str | None]:
    """anonymous_id and user_id."""
    own = _pop_text(properties, "distinct_id")
    distinct_id = values.text(message.get("distinct_id"), "distinct_id") or own
    if own is not None and own != distinct_id:
        properties["distinct_id"] = own
    device = _pop_text(properties, "$device_id") or _pop_text(properties, "$anon_distinct_id")
    if distinct_id is None:
        return device, None
    if distinct_id == device or properties.get("$process_person_profile") is False:
        return distinct_id, None
    return device, distinct_id


def _is_variant(name: str, value: object) -> bool:
    return name.startswith(_FEATURE) and len(name) > len(_FEATURE) and isinstance(value, str | bool)


def _pop_text(properties: dict[str, Any], name: str) -> str | None:
    found = values.loose_text(properties.get(name))
    if found is not None:
        del properties[name]
    return found


def _batch(request: TrackerRequest) -> list[Any]:
    return bodies.batch(request.document, request.max_bytes)


def _answer(account: Mapping[str, object]) -> Answer:
    return Answer({"status": 1, **account})


PROTOCOL = Protocol(
    "posthog",
    read,
    FIELDS,
    routes=(Route("/batch/", _batch, _answer, sent_at="sent_at"),),
    time_fields=TimeFields(("timestamp",), "sent_at", "iso"),
    batch_path="/batch/",
)
