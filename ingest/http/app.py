"""The collector's WSGI app: a request is answered once all of its events are durable.

POST /collect               JSON object, array or {"batch": […], "sent_at", "write_key"}, or a message a line (NDJSON)
POST /collect/access-log    raw lines; ?source=<file>&first_line=<n> (also for NDJSON) give replays their ids
POST /v1/…, /batch/ …       trackers' protocols, see ingest/protocols
GET  /healthz               200: this process answers
GET  /readyz                200: events can be made durable now, in Kafka or in the spool; else 503
GET  /metrics               Prometheus metrics
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache

import msgspec
import structlog
from flask import Flask, Response, jsonify
from prometheus_client import CONTENT_TYPE_LATEST
from werkzeug.exceptions import HTTPException

from infra.settings import Settings
from ingest.convert import native
from ingest.convert.native import RequestOutcome
from ingest.delivery.publisher import Publisher
from ingest.errors import BodyTooLarge, Forbidden, InvalidEvent, PublishError, TooMany, Unauthorized
from ingest.event.context import Context
from ingest.event.times import parse_time
from ingest.http import body, cors, tracker_views
from ingest.http.lean_flask import LeanFlask, LeanRequest, LeanResponse, current
from ingest.http.metrics import CollectorMetrics
from ingest.http.receiver import Receiver

RETRY_AFTER_SECONDS = 2
_LINE_TYPES = ("application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines")
_log = structlog.get_logger()


def now_millis() -> int:
    return time.time_ns() // 1_000_000


def create_app(
    settings: Settings,
    publisher: Publisher,
    metrics: CollectorMetrics | None = None,
    now: Callable[[], int] = now_millis,
) -> Flask:
    """The WSGI app. `metrics`: those shared by the workers. `now`: the clock of received_at, in milliseconds."""
    app = LeanFlask("ingest.http.app", static_folder=None)
    metrics = metrics or CollectorMetrics(publisher.state)
    receiver, answers = Receiver(settings, publisher, metrics, now), Answers(publisher, metrics)
    native, origins = Native(receiver), receiver.origins
    app.add_url_rule("/collect", view_func=native.collect, methods=["POST"])
    app.add_url_rule("/collect/access-log", view_func=native.collect_access_log, methods=["POST"])
    app.register_blueprint(tracker_views.blueprint(receiver))
    app.add_url_rule("/healthz", view_func=lambda: jsonify(status="ok"), endpoint="healthz")
    app.add_url_rule("/readyz", view_func=answers.readyz)
    app.add_url_rule(
        "/metrics", view_func=lambda: Response(metrics.render(), content_type=CONTENT_TYPE_LATEST), endpoint="metrics"
    )
    app.register_error_handler(InvalidEvent, answers.on_invalid)
    app.register_error_handler(Unauthorized, answers.on_unauthorized)
    app.register_error_handler(Forbidden, answers.on_forbidden)
    app.register_error_handler(TooMany, answers.on_too_many)
    app.register_error_handler(PublishError, answers.on_unavailable)
    app.register_error_handler(HTTPException, _on_http_error)
    app.after_request(lambda response: _observe(_allow_origin(response, origins), metrics))
    return app


class Native:
    """The views of native events and of log lines."""

    def __init__(self, receiver: Receiver) -> None:
        self._receiver, self._settings = receiver, receiver.settings

    def collect(self) -> Response:
        asked = current()
        file = asked.query.get("source")
        context = self._receiver.context(file)
        first_line = _first_line(asked)
        lines = _is_lines(asked.content_type) or "first_line" in asked.query
        raw = self._receiver.data()
        try:
            raw = body.decompress(raw, self._settings.collector.max_body_bytes)
            raw, fields = (raw, {}) if lines else body.unwrap_form(raw)
            at_most = self._settings.collector.max_events + 1
            messages = body.read_messages(raw, lines=lines, first_line=first_line, at_most=at_most)
            envelope = {**fields, **messages.envelope}
            context = self._with_key(context, envelope.get("write_key"))
            context = self._with_envelope(context, envelope)
            self._receiver.admit(context, len(messages.messages))
        except InvalidEvent as error:
            self._receiver.keep_malformed(error, raw, context)
            raise
        result = native.read_native(messages, self._receiver.reading(context), file)
        self._receiver.publish(result, context, is_line=messages.kind == "lines")
        if messages.kind == "single":
            result.raise_refused()
        return _answer(result, "line" if messages.kind == "lines" else "index")

    def collect_access_log(self) -> Response:
        asked = current()
        asked.protocol = "access_log"
        file = asked.query.get("source", "")
        context = self._receiver.context(file)
        if not context.write_key:
            self._receiver.stranger()
        if not file:
            raise InvalidEvent("source", "is missing: the name of the log's file")
        first_line = _first_line(asked)
        raw = self._receiver.data()
        collector = self._settings.collector
        try:
            lines = body.split_lines(body.decompress(raw, collector.max_body_bytes), collector.max_events + 1)
            self._receiver.admit(context, len(lines))
        except InvalidEvent as error:
            self._receiver.keep_malformed(error, raw, context)
            raise
        result = native.read_access_log(lines, first_line, file, self._receiver.reading(context))
        self._receiver.publish(result, context, is_line=True)
        return _answer(result, "line")

    def _with_key(self, context: Context, given: object) -> Context:
        if context.write_key:
            return context
        name = self._receiver.keys.resolve(given) if isinstance(given, str) else None
        return replace(context, write_key=name or self._receiver.stranger())

    def _with_envelope(self, context: Context, fields: Mapping[str, object]) -> Context:
        for unknown in sorted(fields.keys() - {"write_key", "sent_at"}):
            raise InvalidEvent(unknown, "is no field of a batch")
        if fields.get("sent_at") is None:
            return context
        try:
            return replace(context, sent_at=parse_time(fields["sent_at"]))
        except ValueError as error:
            raise InvalidEvent("sent_at", str(error)) from error


class Answers:
    """The readiness check, and the answers to refused requests."""

    def __init__(self, publisher: Publisher, metrics: CollectorMetrics) -> None:
        self._publisher, self._metrics = publisher, metrics

    def readyz(self) -> Response:
        """200 if Kafka or the spool takes events and this worker is not draining; else 503."""
        state, draining = self._publisher.state(), "clickstream.draining" in current().environ
        ready = state.accepting and not draining
        way = ("kafka" if state.kafka_up else "spool") if state.accepting else None
        response = jsonify(
            ready=ready,
            way=way,
            draining=draining,
            kafka="up" if state.kafka_up else "down",
            spooled=state.spooled,
            spool_oldest_seconds=round(state.oldest_seconds, 1),
        )
        response.status_code = 200 if ready else 503
        return response

    def on_invalid(self, error: InvalidEvent) -> Response:
        return _error(413 if isinstance(error, BodyTooLarge) else 400, error.reason, error.field)

    def on_unauthorized(self, error: Unauthorized) -> Response:
        self._metrics.count(current().protocol, "", {"unauthorized": 1})
        return _error(401, "is missing or unknown", "write_key")

    def on_forbidden(self, error: Forbidden) -> Response:
        self._metrics.count(current().protocol, error.write_key, {"forbidden": 1})
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


@lru_cache(maxsize=256)
def _is_lines(content_type: str | None) -> bool:
    return (content_type or "").partition(";")[0].strip().lower() in _LINE_TYPES


def _first_line(asked: LeanRequest) -> int:
    text = asked.query.get("first_line", "1")
    if not (text.isascii() and text.isdigit() and 1 <= len(text) <= 15 and int(text) >= 1):
        raise InvalidEvent("first_line", "is no line number from 1")
    return int(text)


def _answer(result: RequestOutcome, number: str) -> Response:
    account = native.account(result, number)
    # The name of a refused field may hold a lone surrogate, which only jsonify can encode.
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
    metrics.answered(asked.endpoint or "none", asked.protocol, asked.key, response.status_code, took)
    return response
