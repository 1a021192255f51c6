"""A pixel's query string -> a native payload: for pages without scripts, and mail. Pure.

`data` is a native event as JSON, plain or in base64url. All other parameters are native fields by name (event_type,
item_id, value, …), the page's as url, referrer, title (or page.url …); unknown ones become properties. Defaults: a
page_view, now, without visitor, of the page in the Referer header.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from ingest.errors import InvalidEvent
from ingest.event.context import Context
from ingest.event.fields import KINDS
from ingest.protocols import native, values
from ingest.protocols.protocol import Answer, Protocol, Resend, Route, TimeFields, TrackerRequest

_PAGE = ("url", "path", "referrer", "title")
GIF = base64.b64decode("R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7")  # 1 x 1, transparent
_URL_SAFE = str.maketrans("+ /", "--_")  # an unescaped + of base64 is a blank in a query
# Native fields by how a parameter's text is read; the address and the agent are the request's.
_KINDS = {name: KINDS[name] for name in native.KNOWN if name in KINDS and name != "ip"}
_TEXTS = {"sdk", *(name for name, kind in _KINDS.items() if kind in ("string", "enum"))}
_COUNTS = {name for name, kind in _KINDS.items() if kind in ("int", "long")}
_NUMBERS = {name for name, kind in _KINDS.items() if kind == "double"}
_TIMES = {"sent_at", *(name for name, kind in _KINDS.items() if kind == "timestamp")}


def read(params: Mapping[str, Any], context: Context) -> list[dict[str, Any]]:
    """The native payload. `params` may hold `page.url` from the Referer. Raises InvalidEvent."""
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


def gif(account: Mapping[str, object]) -> Answer:
    """A transparent image of 1 x 1, whatever became of the message."""
    return Answer(GIF, "image/gif", {"Cache-Control": "no-store"})


def _messages(request: TrackerRequest) -> list[Any]:
    return [{**request.query, **({"page.url": request.referrer} if request.referrer else {})}]


def _resend(message: Mapping[str, Any], run: str, line: int | None) -> Resend:
    return Resend("GET", "/pixel.gif", {"params": values.query_texts(message) | {"run": run}})


PROTOCOL = Protocol(
    "pixel",
    read,
    routes=(Route("/pixel.gif", _messages, gif, methods=("GET",), is_single=True),),
    time_fields=TimeFields(("occurred_at",), "sent_at", "millis"),
    resend=_resend,
    encoded=("data",),
)
