"""The steps that all views share: authenticate a request, check its limits, read its body, make its events durable."""

from __future__ import annotations

import time
from collections.abc import Callable

from flask import request
from werkzeug.exceptions import RequestEntityTooLarge

from infra.settings import Settings
from ingest.convert.native import Reading, RequestOutcome
from ingest.delivery.publisher import Publisher
from ingest.delivery.record import Record
from ingest.errors import BodyTooLarge, Forbidden, InvalidEvent, PublishError, TooMany, Unauthorized
from ingest.event import hints, rejected
from ingest.event.context import Context
from ingest.event.identity import MAX_ID, UNKNOWN_KEY, Browser, KeyRing
from ingest.http import cors
from ingest.http.lean_flask import LeanRequest, current
from ingest.http.metrics import CollectorMetrics
from ingest.policy.pipeline import EventPolicy
from ingest.policy.rate_limits import Rates, check_size

DRAIN_BYTES, MAX_DRAINED_CHUNKS = 1 << 20, 256
_OF_BROWSERS = frozenset(("HTTP_ORIGIN", "HTTP_COOKIE", "HTTP_SEC_FETCH_MODE"))


class Receiver:
    """One per app; takes the request from `current()`."""

    def __init__(
        self, settings: Settings, publisher: Publisher, metrics: CollectorMetrics, now: Callable[[], int]
    ) -> None:
        self.settings = settings
        self._publisher, self._metrics, self._now = publisher, metrics, now
        self.keys, self._policy = KeyRing(settings.collector.write_keys), EventPolicy(settings.collector)
        self._rates, self._everywhere = Rates(settings.collector), cors.allowed_origins(settings)

    @property
    def origins(self) -> frozenset[str]:
        """Origins of all pages that may send events."""
        return self._everywhere | self.keys.origins

    def context(self, file: str | None = None) -> Context:
        """The context before the body is read; its write key is "" if the headers and query have none."""
        asked = current()
        given = (
            asked.environ.get("HTTP_X_WRITE_KEY")
            or asked.query.get("write_key")
            or asked.query.get("writeKey")
            or _basic_user(asked)
        )
        write_key = self.keys.resolve(given) or self.stranger() if given else ""
        run = asked.query.get("run") or file or None
        if run and len(run) > MAX_ID:  # each of its events has it
            raise InvalidEvent("source" if run == file else "run", f"has more than {MAX_ID} characters")
        context = Context(
            write_key=write_key,
            received_at=self._now(),
            protocol=asked.protocol,
            run=run,
            ip=asked.remote_addr,
            user_agent=asked.environ.get("HTTP_USER_AGENT"),
            hints=hints.of_request(asked.environ),
            anonymize_ip=self.settings.collector.anonymize_ip,
        )
        return self._policy.request(context, asked.headers)

    def stranger(self) -> str:
        """UNKNOWN_KEY if the settings quarantine events of unknown keys; else raises Unauthorized."""
        if self.settings.collector.unknown_write_key == "refuse":
            raise Unauthorized
        return UNKNOWN_KEY

    def admit(self, context: Context, messages: int) -> None:
        """Checks origin, batch size and rate limits. Raises Forbidden, InvalidEvent (too many messages) or TooMany."""
        asked = current()
        origin, asked.key = asked.environ.get("HTTP_ORIGIN"), context.write_key
        if not self.keys.allows(context.write_key, origin, self._everywhere):
            raise Forbidden(context.write_key, str(origin))
        check_size(messages, self.settings.collector.max_events)
        if seconds := self._rates.admit(context.write_key, context.ip, messages, self._now() / 1000):
            self._metrics.count(context.protocol, context.write_key, {"limited": messages})
            raise TooMany(seconds)

    def reading(self, context: Context) -> Reading:
        """Everything that converting this request's messages needs. Only a browser gets a cookie, and no replay."""
        asked = current()
        is_browser = asked.method == "GET" or not asked.environ.keys().isdisjoint(_OF_BROWSERS)
        if asked.browser is None and is_browser and not context.run:
            rules = self.settings.collector.cookie
            asked.browser = Browser(rules, asked.cookies, context.received_at, anonymous=context.anonymous)
        return Reading(context, self.settings.kafka.topic, self._policy, asked.browser)

    def publish(self, result: RequestOutcome, context: Context, is_line: bool) -> None:
        """Publishes events and rejects together, and counts them. Raises PublishError."""
        topic = self.settings.kafka.rejected_topic
        scrub = self._policy.privacy.scrubber(context)
        refused = [
            value
            for reject in result.rejects
            for value in rejected.encode(
                reject,
                write_key=context.write_key,
                protocol=context.protocol,
                run=context.run,
                received_at=context.received_at,
                is_line=is_line,
                sent_at=context.sent_at,
                scrub=scrub,
            )
        ]
        quarantined = sum(reject.count for reject in result.rejects if reject.quarantined)
        counts = {
            "accepted": len(result.records),
            "filtered": result.filtered.total(),
            "rejected": sum(reject.count for reject in result.rejects) - quarantined,
            "quarantined": quarantined,
        }
        records = [*result.records, *(Record(topic, None, value) for value in refused)]
        try:
            if records:
                began = time.perf_counter()
                self._metrics.durable(self._publisher.publish(records), time.perf_counter() - began)
        except PublishError:
            counts = {"unavailable": sum(counts.values())}
            raise
        finally:
            self._metrics.count(context.protocol, context.write_key, counts, result.counts)

    def data(self) -> bytes:
        """The raw body. Raises BodyTooLarge."""
        asked, limit = current(), self.settings.collector.max_body_bytes
        try:
            return asked.read(limit)
        except RequestEntityTooLarge as error:
            self._metrics.count(asked.protocol, asked.key, {"malformed": 1})
            raise BodyTooLarge(limit) from error

    def data_prefix(self, limit: int) -> bytes:
        """The raw body's first `limit` + 1 bytes; the rest is read and discarded, so that the client can finish."""
        raw: bytes = request.stream.read(limit + 1)
        for _ in range(MAX_DRAINED_CHUNKS):
            if not request.stream.read(DRAIN_BYTES):
                break
        return raw

    def keep_malformed(self, error: InvalidEvent, raw: bytes, context: Context) -> None:
        """Rejects a malformed body as a whole; only with a known write key, so that strangers can't fill the topic."""
        self._metrics.count(context.protocol, context.write_key, {"malformed": 1})
        if context.write_key and not isinstance(error, BodyTooLarge):
            reject = rejected.of_text(0, error.field, error.reason, raw.decode(errors="backslashreplace"))
            self.publish(RequestOutcome(rejects=[reject]), context, is_line=False)


def _basic_user(asked: LeanRequest) -> str | None:
    auth = asked.authorization if "HTTP_AUTHORIZATION" in asked.environ else None
    return auth.username if auth is not None and auth.type == "basic" else None
