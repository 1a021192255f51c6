"""The view of every tracker's route: finds a request's write key and messages, converts them, and answers.

The protocols' modules declare the routes (ingest/protocols). The write key is Basic auth's user, X-Write-Key,
?writeKey= or write_key=, or the body's writeKey, write_key or api_key; or each message has its own. Gzip and JSON are
detected by their bytes, whatever the Content-Type. 200 means that every event is durable. Bad messages of a batch go to
`clicks.rejected`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from flask import Blueprint, Response, jsonify, request
from msgspec import structs

from ingest.convert import trackers
from ingest.convert.native import RequestOutcome, account
from ingest.errors import InvalidEvent
from ingest.event.context import Context
from ingest.event.identity import UNKNOWN_KEY
from ingest.event.message import Message
from ingest.event.rejected import Reject
from ingest.http import body
from ingest.http.lean_flask import current
from ingest.http.receiver import Receiver
from ingest.protocols import PROTOCOLS, values
from ingest.protocols.protocol import WRITE_KEYS, Answer, Protocol, Route, TrackerRequest

_DEVICES = ("Mozilla/", "Dalvik/", "okhttp/")  # agents of visitors; servers' trackers have others
_EXPANSION = 4  # events may be this much larger than the largest body


def blueprint(receiver: Receiver) -> Blueprint:
    """The routes of every protocol."""
    routes = Blueprint("trackers", __name__)
    for protocol in PROTOCOLS.values():
        for route in protocol.routes:
            endpoint = route.path.strip("/").replace(".", "_")
            view = TrackerView(receiver, protocol, route)
            routes.add_url_rule(route.path, endpoint, view, methods=[*route.methods], strict_slashes=False)
    return routes


class TrackerView:
    """The view of one route."""

    def __init__(self, receiver: Receiver, protocol: Protocol, route: Route) -> None:
        self._receiver, self._protocol, self._route = receiver, protocol, route
        self._collector = receiver.settings.collector
        self._max_bytes = _EXPANSION * self._collector.max_body_bytes

    def __call__(self) -> Response:
        """Raises InvalidEvent, also when a request's only message is refused, and Unauthorized."""
        context, given, cut = self._read(self._context())
        messages, rejects = self._first(given)
        if cut:
            rejects.append(trackers.cut_off(len(given), self._collector.max_body_bytes, cut, self._protocol.key_field))
        if self._protocol.key_field and not context.write_key:
            outcome, context = self._convert_by_key(messages, rejects, context, cut)
        else:
            # What is too large has no app id that could be admitted: where only that came, the reject is kept.
            outcome = self._convert(messages, context) if messages or not self._protocol.key_field else RequestOutcome()
            outcome.rejects += rejects
        self._receiver.publish(outcome, context, is_line=False)
        if self._route.is_single:
            outcome.raise_refused()
        return _response(self._route.answer(account(outcome)))

    def _context(self) -> Context:
        """The request's context. A server's tracker is not the visitor: its agent and address are left out."""
        current().protocol = self._protocol.name
        context = self._receiver.context()
        agent = context.user_agent or ""
        if not (agent.startswith(_DEVICES) or "CFNetwork/" in agent):
            return replace(context, user_agent=None, ip=None, hints=None)
        return replace(context, ip=None) if "SP-Anonymous" in request.headers else context

    def _read(self, context: Context) -> tuple[Context, list[Any], str]:
        """The context with key and sender's clock, the messages, and the text that was beyond the limit.

        Raises InvalidEvent, Unauthorized.
        """
        raw, document = b"", {}
        limit, read_cut = self._collector.max_body_bytes, self._route.read_cut
        if is_post := current().method == "POST":
            raw = self._receiver.data_prefix(limit) if read_cut else self._receiver.data()
        try:
            if is_post and read_cut:
                raw, is_whole = body.inflate_prefix(raw, limit)
                if not is_whole:
                    return context, *read_cut(raw, self._collector.max_events)
            elif is_post:
                raw = body.decompress(raw, limit)
            if is_post:
                document = self._route.document(raw)
            if not self._protocol.key_field and not context.write_key:
                context = replace(context, write_key=self._key_of(document) or self._receiver.stranger())
            asked = TrackerRequest(_query(), document, request.referrer, self._max_bytes)
            messages = self._route.messages(asked)
        except InvalidEvent as error:
            self._receiver.keep_malformed(error, raw, context)
            raise
        return _with_sent_at(context, document, self._route.sent_at), messages, ""

    def _key_of(self, document: Mapping[str, Any]) -> str | None:
        return next((found for key in WRITE_KEYS if (found := self._resolve(document.get(key)))), None)

    def _resolve(self, given: object) -> str | None:
        return self._receiver.keys.resolve(given) if isinstance(given, str) else None

    def _first(self, batch: Sequence[Any]) -> tuple[list[Message], list[Reject]]:
        """As many messages as a request may hold, and the rest as one reject: on a 400 these clients drop all."""
        limit = self._collector.max_events
        rest = list(batch[limit:])
        too_many = Reject(limit, "batch", f"holds more than {limit} events", rest, messages=len(rest))
        return body.numbered(batch[:limit]), [too_many] if rest else []

    def _convert(self, messages: Sequence[Message], context: Context) -> RequestOutcome:
        self._receiver.admit(context, len(messages))
        return trackers.read(messages, self._protocol, self._receiver.reading(context), self._max_bytes)

    def _convert_by_key(
        self, messages: Sequence[Message], rejects: Sequence[Reject], context: Context, cut: str
    ) -> tuple[RequestOutcome, Context]:
        """The outcome of messages that each bring a key, and the context under whose key its rejects are kept."""
        groups: dict[str, list[Message]] = {}
        unknown = RequestOutcome()
        if cut and not messages:
            name = self._resolve(trackers.first_key(cut, self._protocol.key_field))
            context = replace(context, write_key=name or "")
        for message in messages:
            name, payload = self._key_of_message(message.payload)
            if name is None:
                aside = self._collector.unknown_write_key == "quarantine"
                field = self._protocol.key_field
                unknown.rejects.append(Reject(message.number, field, "is no known write key", payload, aside))
                continue
            groups.setdefault(name, []).append(structs.replace(message, payload=payload))
        if not groups and not context.write_key:
            self._receiver.stranger()
        read = [self._convert(group, replace(context, write_key=name)) for name, group in groups.items()]
        if unknown.rejects:
            self._receiver.admit(context, len(unknown.rejects))
        whole = trackers.merge([*read, unknown, RequestOutcome(rejects=[self._without_keys(one) for one in rejects])])
        return whole, replace(context, write_key=context.write_key or next(iter(groups), UNKNOWN_KEY))

    def _key_of_message(self, payload: object) -> tuple[str | None, object]:
        """The name of a message's key, None for an unknown one; and the message without its key, if it is known."""
        if not isinstance(payload, Mapping):
            return None, payload
        field = self._protocol.key_field
        name = self._resolve(payload.get(field))
        return name, payload if name is None else {key: value for key, value in payload.items() if key != field}

    def _without_keys(self, reject: Reject) -> Reject:
        if not isinstance(reject.payload, list):
            return reject
        return replace(reject, payload=[self._key_of_message(inner)[1] for inner in reject.payload])


def _with_sent_at(context: Context, document: Mapping[str, Any], field: str) -> Context:
    """The context with the sender's clock, by which the events' times are corrected; a broken one is ignored."""
    if not field:
        return context
    try:
        return replace(context, sent_at=values.millis(document.get(field), field))
    except InvalidEvent:
        return context


def _query() -> dict[str, Any]:
    return {name: value for name, value in request.args.items() if name not in (*WRITE_KEYS, "run")}


def _response(answer: Answer) -> Response:
    if not isinstance(answer.body, bytes):
        return jsonify(answer.body)
    return Response(answer.body, content_type=answer.content_type, headers=dict(answer.headers))
