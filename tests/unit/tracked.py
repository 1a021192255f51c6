"""The app with keys as others' trackers find it, and what it published."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

from flask.testing import FlaskClient

from infra.sections import Collector
from infra.settings import Settings
from ingest import codec
from ingest.collector import create_app
from ingest.events import ClickEvent
from tests.fakes import FakePublisher

NOW = 1_795_260_000_000
LIMIT = 20_000
ORIGIN = "https://shop.example"
BROWSER = {"User-Agent": "Mozilla/5.0 (Windows NT 10.0) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0"}
BASIC = {"Authorization": "Basic " + base64.b64encode(b"demo:").decode()}
TRACK = {"type": "track", "event": "Rated", "messageId": "m", "anonymousId": "v", "timestamp": NOW - 10}


def app(publisher: FakePublisher, home: Path, max_body_bytes: int = LIMIT, **more: Any) -> FlaskClient:
    collector = Collector(
        write_keys={"shop": "demo", "blog": "blog-key"}, allowed_origins=[ORIGIN], max_body_bytes=max_body_bytes, **more
    )
    return create_app(Settings(home=home, collector=collector), publisher, now=lambda: NOW).test_client()


def events(publisher: FakePublisher) -> list[ClickEvent]:
    return [codec.decode(value) for value in publisher.on("clicks")]


def rejects(publisher: FakePublisher) -> list[dict[str, Any]]:
    return [json.loads(value) for value in publisher.on("clicks.rejected")]


def snowplow(*data: object) -> str:
    return json.dumps({"schema": "iglu:com.snowplowanalytics.snowplow/payload_data/jsonschema/1-0-4", "data": data})
