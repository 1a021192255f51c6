"""The app with keys as others' trackers find it, and what it published."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from functools import cache
from typing import Any

from flask import Flask
from flask.testing import FlaskClient

from infra.settings import Settings
from infra.settings.collector import Collector
from ingest.delivery.publisher import Publisher, PublisherState, Way
from ingest.delivery.record import Record
from ingest.event import codec
from ingest.event.event import ClickEvent
from ingest.http.app import create_app
from tests.fakes import FakePublisher

NOW = 1_795_260_000_000
LIMIT = 20_000
ORIGIN = "https://shop.example"
BROWSER = {"User-Agent": "Mozilla/5.0 (Windows NT 10.0) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0"}
BASIC = {"Authorization": "Basic " + base64.b64encode(b"demo:").decode()}
TRACK = {"type": "track", "event": "Rated", "messageId": "m", "anonymousId": "v", "timestamp": NOW - 10}


class Relay(Publisher):
    """Hands on to the publisher of the test that runs: making an app takes longer than most tests."""

    def __init__(self) -> None:
        self.to = FakePublisher()

    def publish(self, records: Sequence[Record]) -> Way:
        return self.to.publish(records)

    def state(self) -> PublisherState:
        return self.to.state()

    def close(self) -> None:
        self.to.close()


@cache
def _served(collector: str) -> tuple[Flask, Relay]:
    relay = Relay()
    settings = Settings(collector=Collector.model_validate_json(collector))
    return create_app(settings, relay, now=lambda: NOW), relay


def client_of(collector: Collector, publisher: FakePublisher) -> FlaskClient:
    """A client of an app with these settings, one for all tests: what it counts is not of this test alone."""
    served, relay = _served(collector.model_dump_json())
    relay.to = publisher
    return served.test_client()


def app(publisher: FakePublisher, max_body_bytes: int = LIMIT, **more: Any) -> FlaskClient:
    keys = {"shop": "demo", "blog": "blog-key"}
    collector = Collector(write_keys=keys, allowed_origins=[ORIGIN], max_body_bytes=max_body_bytes, **more)  # type: ignore[arg-type]
    return client_of(collector, publisher)


def events(publisher: FakePublisher) -> list[ClickEvent]:
    return [codec.decode(value) for value in publisher.on("clicks")]


def rejects(publisher: FakePublisher) -> list[dict[str, Any]]:
    return [json.loads(value) for value in publisher.on("clicks.rejected")]


def snowplow(*data: object) -> str:
    return json.dumps({"schema": "iglu:com.snowplowanalytics.snowplow/payload_data/jsonschema/1-0-4", "data": data})
