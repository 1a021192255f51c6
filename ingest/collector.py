"""The HTTP door: a body comes in, and is answered once every event of it is durable.

POST /collect               JSON object, array or {"batch": […], "sent_at", "write_key"}, or a message a line (NDJSON)
POST /collect/access-log    raw lines; ?source=<file>&first_line=<n> (also for NDJSON) give replays their ids
POST /v1/…, /batch/ …       others' trackers, see ingest/trackers.py
GET  /health, /metrics      whether events are taken, and numbers for Prometheus
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache

import msgspec
import structlog
from flask import Flask, Response, jsonify, request
from prometheus_client import CONTENT_TYPE_LATEST
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge

from infra.settings import Settings
from ingest import body, cors, hints, intake, rejected, trackers
from ingest.errors import BodyTooLarge, Forbidden, InvalidEvent, PublishError, TooMany, Unauthorized
from ingest.gate import Gate
from ingest.identity import UNKNOWN_KEY, Browser, KeyRing
from ingest.intake import Intake, Reading
from ingest.lean import LeanFlask, LeanRequest, LeanResponse, current
from ingest.limits import Rates, check_size
from ingest.metrics import CollectorMetrics
from ingest.protocols import Context, native
from ingest.publisher import Publisher
from ingest.spool import Record

RETRY_AFTER_SECONDS = 2
DRAIN_BYTES, MAX_DRAINED_CHUNKS = 1 << 20, 256
_OF_BROWSERS = frozenset(("HTTP_ORIGIN", "HTTP_COOKIE", "HTTP_SEC_FETCH_MODE"))
_LINE_TYPES = ("application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines")
_log = structlog.get_logger()


def now_millis() -> int:
    return time.time_ns() // 1_000_000


def create_app(settings: Settings, publisher: Publisher, now: Callable[[], int] = now_millis) -> Flask:
    """The WSGI application. `now` gives received_at in milliseconds."""
    app = LeanFlask("ingest.collector", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = settings.collector.max_body_bytes
    metrics = CollectorMetrics(publisher.state)
    door = Door(settings, publisher, metrics, now)
    origins = cors.allowed_origins(settings) | door.keys.origins
    app.add_url_rule("/collect", view_func=door.collect, methods=["POST"])
    app.add_url_rule("/collect/access-log", view_func=door.collect_access_log, methods=["POST"])
    app.register_blueprint(trackers.blueprint(door))
    app.add_url_rule("/health", view_func=door.health)
    app.add_url_rule(
        "/metrics", view_func=lambda: Response(metrics.render(), content_type=CONTENT_TYPE_LATEST), endpoint="metrics"
    )
    app.register_error_handler(InvalidEvent, door.on_invalid)
    app.register_error_handler(Unauthorized, door.on_unauthorized)
    app.register_error_handler(Forbidden, door.on_forbidden)
    app.register_error_handler(TooMany, door.on_too_many)
    app.register_error_handler(PublishError, door.on_unavailable)
    app.register_error_handler(HTTPException, _on_http_error)
    app.after_request(lambda response: _observe(_allow_origin(response, origins), metrics))
    return app


class Door:
    """The views: parse, hand over, answer; and what the trackers' views share with them."""

    def __init__(
        self, settings: Settings, publisher: Publisher, metrics: CollectorMetrics, now: Callable[[], int]
    ) -> None:
        self.settings = settings
        self._publisher, self._metrics, self._now = publisher, metrics, now
        self.keys, self._gate = KeyRing(settings.collector.write_keys), Gate(settings.collector)
        self._rates, self._everywhere = Rates(settings.collector), cors.allowed_origins(settings)

    def collect(self) -> Response:
        asked = current()
        file = asked.query.get("source")
        context = self.context(file)
        first_line = _first_line(asked)
        lines = _is_lines(asked.content_type) or "first_line" in asked.query
        raw = self.data()
        try:
            raw = body.decompress(raw, self.settings.collector.max_body_bytes)
            raw, fields = (raw, {}) if lines else body.unwrap_form(raw)
            messages = body.read_messages(raw, lines=lines, first_line=first_line)
            context = self._with_envelope(context, {**fields, **messages.envelope})
            self.admit(context, len(messages.messages))
        except InvalidEvent as error:
            self.keep_malformed(error, raw, context)
            raise
        result = intake.read_native(messages, self.reading(context), file)
        self.publish(result, context, is_line=messages.kind == "lines")
        if messages.kind == "single":
            result.raise_refused()
        return _answer(result, "line" if messages.kind == "lines" else "index")

    def collect_access_log(self) -> Response:
        asked = current()
        asked.protocol = "access_log"
        file = asked.query.get("source", "")
        context = self.context(file)
        if not context.write_key:
            self.stranger()
        if not file:
            raise InvalidEvent("source", "is missing: the name of the log's file")
        first_line = _first_line(asked)
        raw = self.data()
        try:
            lines = body.split_lines(body.decompress(raw, self.settings.collector.max_body_bytes))
            self.admit(context, len(lines))
        except InvalidEvent as error:
            self.keep_malformed(error, raw, context)
            raise
        result = intake.read_access_log(lines, first_line, file, self.reading(context))
        self.publish(result, context, is_line=True)
        return _answer(result, "line")

    def health(self) -> Response:
        state = self._publisher.state()
        status = "ok" if state.kafka_up else "spooling" if state.accepting else "failing"
        response = jsonify(status=status, kafka="up" if state.kafka_up else "down", spooled=state.spooled)
        response.status_code = 200 if state.accepting else 503
        return response

    def on_invalid(self, error: InvalidEvent) -> Response:
        return _error(413 if isinstance(error, BodyTooLarge) else 400, error.reason, error.field)

    def on_unauthorized(self, error: Unauthorized) -> Response:
        self._metrics.events.labels("unauthorized", current().protocol).inc()
        return _error(401, "is missing or unknown", "write_key")

    def on_forbidden(self, error: Forbidden) -> Response:
        self._metrics.events.labels("forbidden", current().protocol).inc()
        return _error(403, f"may not be used by pages of {error.origin}", "write_key")

    def on_too_many(self, error: TooMany) -> Response:
        response = _error(429, "too many events; send them again later")
        response.headers["Retry-After"] = str(error.seconds)
        return response

    def on_unavailable(self, error: PublishError) -> Response:
        _log.error("publish_failed", reason=str(error))
        response = _error(503, "events can't be stored now; send them again")
        response.headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
        return response

    def context(self, file: str | None = None) -> Context:
        """What is known before the body is read; the write key is "" while only the body can hold it."""
        asked = current()
        given = (
            asked.environ.get("HTTP_X_WRITE_KEY")
            or asked.query.get("write_key")
            or asked.query.get("writeKey")
            or _basic_user(asked)
        )
        write_key = self.keys.resolve(given) or self.stranger() if given else ""
        context = Context(
            write_key=write_key,
            received_at=self._now(),
            protocol=asked.protocol,
            run=asked.query.get("run") or file or None,
            ip=asked.remote_addr,
            user_agent=asked.environ.get("HTTP_USER_AGENT"),
            hints=hints.of_request(asked.environ),
            anonymize_ip=self.settings.collector.anonymize_ip,
        )
        return self._gate.request(context, asked.headers)

    def stranger(self) -> str:
        """The name of an unknown key where settings say to keep its events aside; else raises Unauthorized."""
        if self.settings.collector.unknown_write_key == "refuse":
            raise Unauthorized
        return UNKNOWN_KEY

    def admit(self, context: Context, messages: int) -> None:
        """Raises Forbidden, InvalidEvent for too large a batch, or TooMany: before anything is read of the messages."""
        origin = current().environ.get("HTTP_ORIGIN")
        if not self.keys.allows(context.write_key, origin, self._everywhere):
            raise Forbidden(context.write_key, str(origin))
        check_size(messages, self.settings.collector.max_events)
        if seconds := self._rates.admit(context.write_key, context.ip, messages, self._now() / 1000):
            self._metrics.events.labels("limited", context.protocol).inc(messages)
            raise TooMany(seconds)

    def reading(self, context: Context) -> Reading:
        """With what this request's messages are read. Only a browser, and no replay, is given a visitor's cookie."""
        asked = current()
        if not context.run and (asked.method == "GET" or not asked.environ.keys().isdisjoint(_OF_BROWSERS)):
            rules = self.settings.collector.cookie
            asked.browser = Browser(rules, asked.cookies, context.received_at, anonymous=context.anonymous)
        return Reading(context, self.settings.kafka.topic, self._gate, asked.browser)

    def _with_envelope(self, context: Context, fields: Mapping[str, object]) -> Context:
        for unknown in fields.keys() - {"write_key", "sent_at"}:
            raise InvalidEvent(unknown, "is no field of a batch")
        if not context.write_key:
            given = fields.get("write_key")
            name = (self.keys.resolve(given) if isinstance(given, str) else None) or self.stranger()
            context = replace(context, write_key=name)
        if fields.get("sent_at") is None:
            return context
        try:
            return replace(context, sent_at=native.parse_time(fields["sent_at"]))
        except ValueError as error:
            raise InvalidEvent("sent_at", str(error)) from error

    def publish(self, result: Intake, context: Context, is_line: bool) -> None:
        """Events and rejects in one go, both durable before the answer."""
        topic = self.settings.kafka.rejected_topic
        scrub = self._gate.privacy.scrubber(context)
        refused = [
            rejected.encode(
                reject,
                write_key=context.write_key,
                protocol=context.protocol,
                run=context.run,
                received_at=context.received_at,
                is_line=is_line,
                sent_at=context.sent_at,
                scrub=scrub,
            )
            for reject in result.rejects
        ]
        quarantined = sum(reject.quarantined for reject in result.rejects)
        counts = {
            "accepted": len(result.records),
            "filtered": result.filtered.total(),
            "rejected": len(result.rejects) - quarantined,
            "quarantined": quarantined,
        }
        for what, count in result.counts.items():
            self._metrics.rules.labels(what).inc(count)
        try:
            self._publisher.publish([*result.records, *(Record(topic, None, value) for value in refused)])
        except PublishError:
            counts = {"unavailable": sum(counts.values())}
            raise
        finally:
            for outcome, count in counts.items():
                if count:
                    self._metrics.events.labels(outcome, context.protocol).inc(count)

    def data(self) -> bytes:
        """The body as it came. Raises BodyTooLarge."""
        asked, limit = current(), self.settings.collector.max_body_bytes
        try:
            return asked.read(limit)
        except RequestEntityTooLarge as error:
            self._metrics.events.labels("malformed", asked.protocol).inc()
            raise BodyTooLarge(limit) from error

    def data_prefix(self, limit: int) -> bytes:
        """The same, cut a byte after the limit; the rest is read and forgotten, so that the client can end."""
        request.max_content_length = sys.maxsize  # None would be the setting
        raw: bytes = request.stream.read(limit + 1)
        for _ in range(MAX_DRAINED_CHUNKS):
            if not request.stream.read(DRAIN_BYTES):
                break
        return raw

    def keep_malformed(self, error: InvalidEvent, raw: bytes, context: Context) -> None:
        """A body that is no message at all is kept too, but only of who is known: strangers can't fill the topic."""
        self._metrics.events.labels("malformed", context.protocol).inc()
        if context.write_key and not isinstance(error, BodyTooLarge):
            text = rejected.redact_line(raw.decode(errors="backslashreplace"))
            reject = rejected.Reject(0, error.field, error.reason, text)
            self.publish(Intake(rejects=[reject]), context, is_line=False)


def _basic_user(asked: LeanRequest) -> str | None:
    auth = asked.authorization if "HTTP_AUTHORIZATION" in asked.environ else None
    return auth.username if auth is not None and auth.type == "basic" else None


@lru_cache(maxsize=256)
def _is_lines(content_type: str | None) -> bool:
    return (content_type or "").partition(";")[0].strip().lower() in _LINE_TYPES


def _first_line(asked: LeanRequest) -> int:
    text = asked.query.get("first_line", "1")
    if not (text.isascii() and text.isdigit() and 1 <= len(text) <= 15 and int(text) >= 1):
        raise InvalidEvent("first_line", "is no line number from 1")
    return int(text)


def _answer(result: Intake, number: str) -> Response:
    account = intake.account(result, number)
    # A field's name may be half a character, which only jsonify can tell.
    return jsonify(account) if result.rejects else LeanResponse(msgspec.json.encode(account))


def _error(status: int, reason: str, field: str | None = None) -> Response:
    named = {"error": f"{field} {reason}", "field": field, "reason": reason} if field else {"error": reason}
    response = jsonify(named)
    response.status_code = status
    return response


def _on_http_error(error: HTTPException) -> Response:
    return _error(error.code or 500, error.name)


def _allow_origin(response: Response, allowed: frozenset[str]) -> Response:
    asked = current()
    for name, value in cors.headers(asked.method, asked.headers, allowed).items():
        response.headers[name] = value
    return response


def _observe(response: Response, metrics: CollectorMetrics) -> Response:
    asked = current()
    took = time.perf_counter() - asked.started
    if asked.browser is not None:
        for cookie in asked.browser.set_cookies():
            response.headers.add("Set-Cookie", cookie)
    metrics.requests.labels(asked.endpoint or "none", response.status_code).observe(took)
    return response
