"""The doors of others' trackers: Segment, RudderStack, PostHog, Snowplow and pixels speak to these routes unchanged.

POST /v1/batch /v1/import /v1/b            Segment's and RudderStack's batches; also /beacon/v1/batch
POST /v1/{page,screen,identify,track,group,alias}, /v1/{p,i,t,g,a,s}       one of their messages
POST /batch/                               PostHog's batches
POST /com.snowplowanalytics.snowplow/tp2   Snowplow's; GET /i its pixel
GET  /pixel.gif                            native fields as a query string

The write key is Basic auth's user, X-Write-Key, ?writeKey= or write_key=, or the body's writeKey, write_key or api_key;
Snowplow's trackers, which have no key, give it as their app id (`aid`). What the body is, its bytes say: gzip or JSON,
whatever its Content-Type. 200 means: durable. Of a batch the bad messages are kept in `clicks.rejected`.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from flask import Blueprint, Response, jsonify, request
from msgspec import structs

from ingest import body, foreign
from ingest.body import Message
from ingest.door import Door
from ingest.errors import InvalidEvent
from ingest.foreign import Protocol
from ingest.identity import UNKNOWN_KEY
from ingest.intake import Intake, account
from ingest.lean import current
from ingest.protocols import Context, values
from ingest.protocols.segment import KINDS
from ingest.rejected import Reject

TP2 = "/com.snowplowanalytics.snowplow/tp2"
GIF = base64.b64decode("R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7")  # 1 x 1, transparent
_KEYS = ("writeKey", "write_key", "api_key")
_DEVICES = ("Mozilla/", "Dalvik/", "okhttp/")  # the visitor's own; servers' trackers call themselves something else
_EXPANSION = 4  # events may be this much larger than the largest body


def blueprint(door: Door) -> Blueprint:
    """The routes, on a door that reads requests and makes events durable."""
    trackers = Trackers(door)
    routes = Blueprint("trackers", __name__)

    def add(path: str, view: Callable[[], Response], method: str = "POST") -> None:
        routes.add_url_rule(path, path.strip("/").replace(".", "_"), view, methods=[method], strict_slashes=False)

    for path in ("/v1/batch", "/v1/import", "/v1/b", "/beacon/v1/batch"):
        add(path, trackers.segment_batch)
    for kind in KINDS:
        add(f"/v1/{kind}", trackers.segment_message(kind))
        add(f"/v1/{kind[0]}", trackers.segment_message(kind))
    add("/batch/", trackers.posthog)
    add(TP2, trackers.snowplow)
    add("/i", trackers.snowplow_pixel, "GET")
    add("/pixel.gif", trackers.pixel, "GET")
    return routes


class Trackers:
    """The views: find key and messages, hand over, answer as that client likes."""

    def __init__(self, door: Door) -> None:
        self._door = door
        self._collector = door.settings.collector

    def segment_batch(self) -> Response:
        context, document = self._document(foreign.SEGMENT, is_batch=True)
        result = self._take(document["batch"], foreign.SEGMENT, _sent(context, document, "sentAt"))
        return _answer(result, success=True)

    def segment_message(self, kind: str) -> Callable[[], Response]:
        def view() -> Response:
            context, document = self._document(foreign.SEGMENT)
            message = {"type": kind} | {name: value for name, value in document.items() if name not in _KEYS}
            result = self._take([message], foreign.SEGMENT, context, single=True)
            return _answer(result, success=True)

        return view

    def posthog(self) -> Response:
        context, document = self._document(foreign.POSTHOG, is_batch=True)
        result = self._take(document["batch"], foreign.POSTHOG, _sent(context, document, "sent_at"))
        return _answer(result, status=1)

    def snowplow(self) -> Response:
        """Never 413: what is too large is taken as far as it goes, since the tracker would send it again for ever."""
        context = self._context(foreign.SNOWPLOW)
        limit = self._collector.max_body_bytes
        raw = self._door.data_prefix(limit)
        try:
            raw, whole = body.inflate_prefix(raw, limit)
            at_most = self._collector.max_events
            given, rest = (foreign.read_object(raw).get("data"), "") if whole else foreign.read_cut(raw, at_most)
            if not isinstance(given, list):
                raise InvalidEvent("data", "is missing" if given is None else "is no array")
        except InvalidEvent as error:
            self._door.keep_malformed(error, raw, context)
            raise
        self._take_by_app(given, context, cut=rest)
        return Response("ok", content_type="text/plain")

    def snowplow_pixel(self) -> Response:
        context = self._context(foreign.SNOWPLOW)
        self._take_by_app([_query()], context, single=True)
        return _gif()

    def pixel(self) -> Response:
        context = self._context(foreign.PIXEL)
        if not context.write_key:
            self._door.stranger()
        params = _query() | ({"page.url": request.referrer} if request.referrer else {})
        self._take([params], foreign.PIXEL, context, single=True)
        return _gif()

    def _context(self, protocol: Protocol) -> Context:
        """Of a request of a server's tracker, agent and address are the server's, not the visitor's."""
        current().protocol = protocol.name
        context = self._door.context()
        agent = context.user_agent or ""
        if not (agent.startswith(_DEVICES) or "CFNetwork/" in agent):
            return replace(context, user_agent=None, ip=None, hints=None)
        return replace(context, ip=None) if "SP-Anonymous" in request.headers else context

    def _document(self, protocol: Protocol, is_batch: bool = False) -> tuple[Context, dict[str, Any]]:
        """The body's object, and the request's context with its key. Raises InvalidEvent, Unauthorized."""
        context = self._context(protocol)
        raw = self._door.data()
        try:
            raw = body.decompress(raw, self._collector.max_body_bytes)
            document = foreign.read_object(raw)
            if not context.write_key:
                name = next((found for key in _KEYS if (found := self._resolve(document.get(key)))), "")
                context = replace(context, write_key=name or self._door.stranger())
            if is_batch:
                if not isinstance(document.get("batch"), list):
                    raise InvalidEvent("batch", "is no array" if "batch" in document else "is missing")
                document["batch"] = _with_shared(document, self._limit)
        except InvalidEvent as error:
            self._door.keep_malformed(error, raw, context)
            raise
        return context, document

    def _resolve(self, given: object) -> str | None:
        return self._door.keys.resolve(given) if isinstance(given, str) else None

    def _take(self, batch: Sequence[Any], protocol: Protocol, context: Context, *, single: bool = False) -> Intake:
        messages, rest = self._first(batch)
        self._door.admit(context, len(messages))
        result = foreign.read(messages, protocol, self._door.reading(context), self._limit)
        result.rejects += rest
        self._publish(result, context, single)
        return result

    def _first(self, batch: Sequence[Any]) -> tuple[list[Message], list[Reject]]:
        """As many messages as a request may hold, and the rest as one reject: on a 400 these clients drop all."""
        limit = self._collector.max_events
        rest = list(batch[limit:])
        too_many = Reject(limit, "batch", f"holds more than {limit} events", rest, messages=len(rest))
        return body.numbered(batch[:limit]), [too_many] if rest else []

    def _take_by_app(self, batch: Sequence[Any], context: Context, *, cut: str = "", single: bool = False) -> None:
        """Snowplow's, each under the key that its app id is, unless the request itself has one.

        `cut`: the text of those that are too large.
        """
        groups: dict[str, list[Message]] = {}
        unknown = Intake()
        messages, rejects = self._first(batch)
        if cut:
            rejects.append(foreign.cut_off(len(batch), self._collector.max_body_bytes, cut))
            if not messages and not context.write_key:
                context = replace(context, write_key=self._resolve(foreign.app_id(cut)) or "")
        for message in messages:
            name, payload = self._of_app(message.payload, context)
            if name is None:
                aside = self._collector.unknown_write_key == "quarantine"
                unknown.rejects.append(Reject(message.number, "aid", "is no known write key", payload, aside))
                continue
            groups.setdefault(name, []).append(structs.replace(message, payload=payload))
        if not groups and not context.write_key:
            self._door.stranger()
        read = []
        for name, group in groups.items():
            own = replace(context, write_key=name)
            self._door.admit(own, len(group))
            read.append(foreign.read(group, foreign.SNOWPLOW, self._door.reading(own), self._limit))
        if unknown.rejects:
            self._door.admit(context, len(unknown.rejects))
        rejects = [
            replace(one, payload=[self._of_app(inner, context)[1] for inner in one.payload])
            if isinstance(one.payload, list)
            else one
            for one in rejects
        ]
        name = context.write_key or next(iter(groups), UNKNOWN_KEY)
        whole = foreign.merge([*read, unknown, Intake(rejects=rejects)])
        self._publish(whole, replace(context, write_key=name), single)

    def _of_app(self, payload: object, context: Context) -> tuple[str | None, object]:
        """The name of a message's key, None for an unknown one; and the message without its app id, if that is it."""
        if context.write_key or not isinstance(payload, Mapping):
            return context.write_key or None, payload
        name = self._resolve(payload.get("aid"))
        return name, payload if name is None else {key: value for key, value in payload.items() if key != "aid"}

    @property
    def _limit(self) -> int:
        return _EXPANSION * self._collector.max_body_bytes

    def _publish(self, result: Intake, context: Context, single: bool) -> None:
        """Raises InvalidEvent when the request's one message is refused."""
        self._door.publish(result, context, is_line=False)
        if single:
            result.raise_refused()


def _answer(result: Intake, **liked: object) -> Response:
    return jsonify(**liked, **account(result))


def _sent(context: Context, document: Mapping[str, Any], field: str) -> Context:
    """With the batch's own time, by which the client's clock is corrected; a broken one is no reason to refuse."""
    try:
        return replace(context, sent_at=values.millis(document.get(field), field))
    except InvalidEvent:
        return context


def _with_shared(document: Mapping[str, Any], limit: int) -> list[Any]:
    """A batch's messages, each with what the batch says of all. Raises InvalidEvent beyond `limit` bytes of that."""
    batch: list[Any] = document["batch"]
    shared = {name: document[name] for name in ("context", "integrations") if isinstance(document.get(name), dict)}
    if shared and len(json.dumps(shared)) * len(batch) > limit:  # few bytes would be many, of each message
        raise InvalidEvent(next(iter(shared)), f"makes the request's events larger than {limit} bytes")
    return [_joined(message, shared) for message in batch] if shared else batch


def _joined(payload: object, shared: Mapping[str, Mapping[str, Any]]) -> object:
    """Its own goes first."""
    if not isinstance(payload, Mapping):
        return payload
    own = {name: payload.get(name) for name in shared}
    merged = {
        name: {**value, **(given or {})}
        for name, value in shared.items()
        if (given := own[name]) is None or isinstance(given, Mapping)
    }
    return {**payload, **merged}


def _query() -> dict[str, Any]:
    return {name: value for name, value in request.args.items() if name not in (*_KEYS, "run")}


def _gif() -> Response:
    response = Response(GIF, content_type="image/gif")
    response.headers["Cache-Control"] = "no-store"
    return response
