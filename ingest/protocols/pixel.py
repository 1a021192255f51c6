"""A pixel's query string -> a native payload: for pages without scripts, and mail. Pure.

`data`, where it is given, is a native event as JSON, plain or in base64url. All other parameters are native fields by
name (event_type, item_id, value, …), the page's as url, referrer, title (or page.url …), and each unknown one is a
property. Without them: page_view, now, no visitor, and the page that the request's Referer names.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from ingest.errors import InvalidEvent
from ingest.protocols import Context, values

_PAGE = ("url", "path", "referrer", "title")
_TEXTS = (
    "event_type", "event_name", "message_id", "anonymous_id", "user_id", "client_session_id", "item_id", "list_id",
    "impression_id", "model_version", "order_id", "currency", "sdk",
)  # fmt: skip
_URL_SAFE = str.maketrans("+ /", "--_")  # an unescaped + of base64 is a blank in a query
_COUNTS = ("position", "quantity", "sequence")
_NUMBERS = ("value", "propensity")
_TIMES = ("occurred_at", "sent_at")


def read(params: Mapping[str, Any], context: Context) -> list[dict[str, Any]]:
    """The one native payload. `params` may hold `page.url` from the Referer. Raises InvalidEvent."""
    payload: dict[str, Any] = {"event_type": "page_view", "occurred_at": context.received_at}
    page: dict[str, Any] = {}
    properties: dict[str, Any] = {}
    for name, value in params.items():
        if name == "data":
            payload |= _data(value)
        elif name.removeprefix("page.") in _PAGE:
            page.setdefault(name.removeprefix("page."), value)
        elif value == "":
            continue
        elif name in _TEXTS:
            payload[name] = value
        elif name in _COUNTS or name in _NUMBERS:
            payload[name] = _converted(name, value)
        elif name in _TIMES:
            payload[name] = int(value) if value.isascii() and value.isdigit() else value
        else:
            properties[name] = value
    payload["page"] = page | dict(values.mapping(payload.get("page"), "page"))
    payload["properties"] = values.join(values.mapping(payload.get("properties"), "properties"), properties)
    return [payload]


def _converted(name: str, value: str) -> float | int:
    found = values.count(value) if name in _COUNTS else values.number(value)
    if found is None:
        raise InvalidEvent(name, "is no number" if name in _NUMBERS else "is no whole number from 0")
    return found


def _data(text: str) -> dict[str, Any]:
    try:
        if not text.lstrip().startswith("{"):
            text = base64.urlsafe_b64decode(text.translate(_URL_SAFE) + "=" * (-len(text) % 4)).decode()
        document = values.parse_json(text)
    except ValueError:
        raise InvalidEvent("data", "is no JSON") from None
    return dict(values.mapping(document, "data"))
