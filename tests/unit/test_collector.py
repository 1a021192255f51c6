"""The collector over HTTP, through the real app with a publisher in memory."""

from __future__ import annotations

import base64
import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from infra.settings import Settings
from infra.settings.collector import Collector
from ingest.delivery.publisher import PublisherState
from ingest.errors import SpoolFull
from ingest.event import codec
from ingest.event.event import ClickEvent
from ingest.http.app import create_app
from ingest.tools.replay import bundled_log
from tests.fakes import FakePublisher
from tests.support.tracked import NOW, client_of

KEY = {"X-Write-Key": "s3cret"}
CLICK = {"event_type": "click", "occurred_at": NOW, "anonymous_id": "v1"}


@pytest.fixture
def publisher() -> FakePublisher:
    return FakePublisher()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        home=tmp_path,
        collector=Collector(
            write_keys={"shop": "s3cret"}, allowed_origins=["https://shop.example"], max_body_bytes=3_000_000
        ),
    )


@pytest.fixture
def client(settings: Settings, publisher: FakePublisher) -> FlaskClient:
    return client_of(settings.collector, publisher)


@pytest.fixture
def counting(settings: Settings, publisher: FakePublisher) -> FlaskClient:
    """A client of an app of the test's own, which has counted nothing yet."""
    return create_app(settings, publisher, now=lambda: NOW).test_client()


def events(publisher: FakePublisher) -> list[ClickEvent]:
    return [codec.decode(value) for value in publisher.on("clicks")]


def rejects(publisher: FakePublisher) -> list[dict[str, Any]]:
    return [json.loads(value) for value in publisher.on("clicks.rejected")]


def test_a_single_event_is_published_under_its_visitor(client: FlaskClient, publisher: FakePublisher) -> None:
    response = client.post("/collect", json=CLICK, headers=KEY)
    assert (response.status_code, response.json) == (200, {"accepted": 1, "filtered": {}, "rejected": {}, "errors": []})
    [event] = events(publisher)
    assert (event.write_key, event.received_at, event.source.protocol) == ("shop", NOW, "native")
    assert publisher.records[0].key == b"v1"


@pytest.mark.parametrize(
    "how",
    [
        {"headers": KEY, "json": CLICK},
        {"headers": {"Authorization": "Basic " + base64.b64encode(b"s3cret:").decode()}, "json": CLICK},
        {"query_string": {"write_key": "s3cret"}, "json": CLICK},
        {"json": CLICK | {"write_key": "s3cret"}},
        {"json": {"write_key": "s3cret", "batch": [CLICK]}},
    ],
    ids=["header", "basic", "query", "event", "batch"],
)
def test_the_write_key_may_come_in_any_of_its_places(
    client: FlaskClient, publisher: FakePublisher, how: dict[str, Any]
) -> None:
    assert client.post("/collect", **how).status_code == 200
    [event] = events(publisher)
    assert event.properties == {}, "the secret is no property"


@pytest.mark.parametrize("how", [{}, {"headers": {"X-Write-Key": "shop"}}, {"query_string": {"write_key": "x"}}])
@pytest.mark.parametrize("path", ["/collect", "/collect/access-log"])
def test_without_a_known_write_key_nothing_is_taken(
    client: FlaskClient, publisher: FakePublisher, path: str, how: dict[str, Any]
) -> None:
    response = client.post(path, json=CLICK, **how)
    assert response.status_code == 401
    assert response.json is not None
    assert response.json["field"] == "write_key"
    assert publisher.records == []


def test_an_invalid_event_is_a_400_naming_its_field_and_kept(client: FlaskClient, publisher: FakePublisher) -> None:
    bad = CLICK | {"occurred_at": "2026-01-01T00:00:00", "user_id": "u", "ip": "203.0.113.9", "user_agent": "x"}
    response = client.post("/collect", json=bad | {"properties": {"eMail": "a@b.example"}}, headers=KEY)
    assert response.status_code == 400
    assert response.json is not None
    assert (response.json["field"], response.json["reason"]) == ("occurred_at", "has no time zone")
    [reject] = rejects(publisher)
    assert len(reject.pop("id")) == 36
    assert reject == {
        "reason": "has no time zone",
        "field": "occurred_at",
        "write_key": "shop",
        "source": {"protocol": "native", "run": None},
        "received_at": NOW,
        "payload": bad | {"ip": "203.0.113.0", "user_agent": "[redacted]", "properties": {"eMail": "[redacted]"}},
    }


@pytest.mark.parametrize(
    "batch", [[CLICK, 7, CLICK | {"position": -1}], {"batch": [CLICK, 7, CLICK | {"position": -1}]}]
)
def test_of_a_batch_the_good_are_taken_and_the_bad_accounted_for(
    client: FlaskClient, publisher: FakePublisher, batch: Any
) -> None:
    response = client.post("/collect", json=batch, headers=KEY)
    assert response.status_code == 200
    answer = response.json
    assert answer is not None
    assert answer["accepted"] == 1
    assert sum(answer["rejected"].values()) == 2
    assert [(error["index"], error["field"]) for error in answer["errors"]] == [(1, "event"), (2, "position")]
    assert len(events(publisher)) == 1
    assert [reject["payload"] for reject in rejects(publisher)] == [7, CLICK | {"position": -1}]


def test_a_batch_sent_by_a_slow_clock_is_corrected(client: FlaskClient, publisher: FakePublisher) -> None:
    slow = NOW - 3_600_000
    body = {"batch": [CLICK | {"occurred_at": slow - 1000}], "sent_at": slow}
    assert client.post("/collect", json=body, headers=KEY).status_code == 200
    assert events(publisher)[0].occurred_at == NOW - 1000


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"", "body"),
        (b'{"event_type":', "body"),
        (b"\xff\xfe{}", "body"),
        (b"7", "body"),
        (b'{"value": NaN}', "body"),
        (b"[" * 100_000, "body"),
        (b"\x1f\x8bbroken", "body"),
        (gzip.compress(b"{}", mtime=0)[:-4], "body"),
        (gzip.compress(b"{}", mtime=0) + b"more", "body"),
        (b'{"batch": 3}', "batch"),
        (b'{"batch": [], "sent_at": "now"}', "sent_at"),
        (b'{"batch": [], "context": {}}', "context"),
    ],
)
def test_a_malformed_body_is_a_400_and_kept(
    client: FlaskClient, publisher: FakePublisher, body: bytes, field: str
) -> None:
    response = client.post("/collect", data=body, headers=KEY)
    assert response.status_code == 400
    assert response.json is not None
    assert response.json["field"] == field
    assert [reject["field"] for reject in rejects(publisher)] == [field]


@pytest.mark.parametrize("content_type", ["application/x-ndjson", "text/plain", "text/plain;charset=UTF-8"])
def test_a_message_a_line_is_taken_also_when_labelled_as_text(
    client: FlaskClient, publisher: FakePublisher, content_type: str
) -> None:
    body = "\r\n".join([json.dumps(CLICK), "", "{broken", json.dumps(CLICK | {"anonymous_id": "v2"}), ""])
    answer = client.post("/collect", data=body, content_type=content_type, headers=KEY).json
    assert answer is not None
    assert (answer["accepted"], answer["filtered"]) == (2, {"blank": 1})
    assert answer["errors"] == [{"line": 3, "field": "line", "reason": "is not JSON"}]
    assert [reject["payload"] for reject in rejects(publisher)] == ["{broken"]
    assert [event.anonymous_id for event in events(publisher)] == ["v1", "v2"]


def test_gzip_is_told_by_its_first_bytes(client: FlaskClient, publisher: FakePublisher) -> None:
    half = json.dumps([CLICK] * 3).encode()
    body = gzip.compress(half[:20]) + gzip.compress(half[20:])
    assert client.post("/collect", data=body, headers=KEY).status_code == 200
    assert len(events(publisher)) == 3


@pytest.mark.parametrize("body", [b" " * 3_000_001, gzip.compress(b" " * 3_000_001)], ids=["plain", "bomb"])
def test_a_body_beyond_the_limit_is_a_413(client: FlaskClient, publisher: FakePublisher, body: bytes) -> None:
    response = client.post("/collect", data=body, headers=KEY)
    assert response.status_code == 413
    assert response.json is not None
    assert response.json["field"] == "body"
    assert publisher.records == []


def test_an_event_too_large_for_kafka_is_rejected_not_published(client: FlaskClient, publisher: FakePublisher) -> None:
    properties = {str(n): "x" * 8000 for n in range(200)}
    response = client.post("/collect", json=CLICK | {"properties": properties}, headers=KEY)
    assert response.status_code == 400
    assert events(publisher) == []
    [value] = publisher.on("clicks.rejected")
    assert len(value) < 900_000
    assert json.loads(value)["truncated"] is True


def test_what_is_not_durable_is_not_acknowledged(counting: FlaskClient, publisher: FakePublisher) -> None:
    publisher.failure = SpoolFull("full")
    response = counting.post("/collect", json=CLICK, headers=KEY)
    assert response.status_code == 503
    assert int(response.headers["Retry-After"]) > 0
    text = counting.get("/metrics").text
    assert 'clickstream_collector_events_total{key="shop",outcome="unavailable",protocol="native"} 1.0' in text
    assert 'outcome="accepted"' not in text


def test_of_the_bundled_log_every_line_is_accounted_for(client: FlaskClient, publisher: FakePublisher) -> None:
    answer = _replay_log(client)
    assert answer["accepted"] == 2994
    assert answer["filtered"] == {
        "asset": 5353, "download": 76, "feed": 932, "method": 48, "robots": 180, "status": 416,
    }  # fmt: skip
    assert answer["rejected"] == {"line: is not in the combined log format": 1}
    assert answer["accepted"] + sum(answer["filtered"].values()) + sum(answer["rejected"].values()) == 10_000
    assert answer["errors"] == [{"line": 8899, "field": "line", "reason": "is not in the combined log format"}]
    [reject] = rejects(publisher)
    assert reject["line"] == 8899
    assert reject["payload"].startswith("46.118.127.0 - - [20/May/2015:12:05:17")
    got = events(publisher)
    assert {(event.source.protocol, event.source.run) for event in got} == {("access_log", "access.log.gz")}
    assert all(event.ip is None or event.ip.endswith(".0") for event in got)
    assert 1000 < sum(event.device.is_bot for event in got) < 1500
    assert not any(event.flags for event in got), "history has no odd clock"


def test_the_log_replayed_twice_is_the_same_events(client: FlaskClient, publisher: FakePublisher) -> None:
    accepted = _replay_log(client, 700)["accepted"]
    first = {event.event_id for event in events(publisher)}
    _replay_log(client, 700)
    both = [event.event_id for event in events(publisher)]
    assert len(first) == accepted > 150
    assert len(both) == 2 * accepted
    assert set(both) == first


def test_replayed_json_lines_get_their_ids_from_file_and_line(client: FlaskClient, publisher: FakePublisher) -> None:
    body = json.dumps(CLICK) + "\n" + json.dumps(CLICK | {"message_id": "mine"}) + "\n"
    for _ in range(2):
        client.post("/collect?source=a.jsonl&first_line=41", data=body, headers=KEY)
    first, second, third, fourth = events(publisher)
    assert (first.event_id, second.event_id) == (third.event_id, fourth.event_id)
    assert first.message_id.startswith("a.jsonl:41:")
    assert (second.message_id, second.sequence, second.source.run) == ("mine", 42, "a.jsonl")


@pytest.mark.parametrize("query", ["source=a&first_line=0", "source=a&first_line=x", "first_line=1"])
def test_a_log_needs_its_name_and_a_line_number(client: FlaskClient, query: str) -> None:
    response = client.post(f"/collect/access-log?{query}", data="x", headers=KEY)
    assert response.status_code == 400
    assert response.json is not None
    assert response.json["field"] in ("source", "first_line")


@pytest.mark.parametrize(
    ("state", "status", "way"),
    [
        (PublisherState(True, 0, True), 200, "kafka"),
        (PublisherState(False, 5, True), 200, "spool"),
        (PublisherState(False, 5, False), 503, None),
    ],
)
def test_it_is_ready_while_events_can_be_made_durable_and_says_how(
    client: FlaskClient, publisher: FakePublisher, state: PublisherState, status: int, way: str | None
) -> None:
    publisher.current = state
    response = client.get("/readyz")
    assert (response.status_code, response.json["ready"]) == (status, status == 200)
    assert (response.json["way"], response.json["spooled"]) == (way, state.spooled)
    assert client.get("/healthz").status_code == 200


def test_a_worker_that_is_to_end_takes_events_and_is_not_ready(client: FlaskClient) -> None:
    draining = {"clickstream.draining": True}
    assert client.get("/readyz", environ_overrides=draining).status_code == 503
    assert client.post("/collect", json=CLICK, headers=KEY, environ_overrides=draining).status_code == 200


def test_metrics_count_every_outcome(counting: FlaskClient) -> None:
    answer = _replay_log(counting, 300)
    counting.post("/collect", json=CLICK)
    counting.post("/collect/access-log?source=a&first_line=1", data="no log line", headers=KEY)
    text = counting.get("/metrics").text
    accepted = answer["accepted"]
    assert 0 < accepted < 300
    for outcome, count in (("accepted", accepted), ("filtered", 300 - accepted), ("rejected", 1)):
        assert (
            f'clickstream_collector_events_total{{key="shop",outcome="{outcome}",protocol="access_log"}} {count}.0'
            in text
        )
    assert 'clickstream_collector_events_total{key="",outcome="unauthorized",protocol="native"} 1.0' in text


@pytest.mark.parametrize("origin", ["https://shop.example", "http://127.0.0.1:8001", "http://localhost:8001"])
def test_known_pages_may_send_with_credentials(client: FlaskClient, origin: str) -> None:
    for response in (
        client.options("/collect", headers={"Origin": origin}),
        client.post("/collect", json=CLICK, headers=KEY | {"Origin": origin}),
        client.post("/collect", json=CLICK, headers={"Origin": origin}),
    ):
        assert response.headers["Access-Control-Allow-Origin"] == origin
        assert response.headers["Access-Control-Allow-Credentials"] == "true"
        assert response.headers["Vary"] == "Origin"


def test_unknown_pages_get_no_leave(client: FlaskClient) -> None:
    response = client.options("/collect", headers={"Origin": "https://evil.example"})
    assert "Access-Control-Allow-Origin" not in response.headers


@pytest.mark.parametrize(("path", "status"), [("/nothing", 404), ("/collect", 405)])
def test_errors_are_json(client: FlaskClient, path: str, status: int) -> None:
    response = client.get(path)
    assert (response.status_code, response.is_json) == (status, True)


def _replay_log(client: FlaskClient, lines: int = 10_000) -> dict[str, Any]:
    body = b"".join(gzip.decompress(bundled_log().read_bytes()).splitlines(keepends=True)[:lines])
    response = client.post("/collect/access-log?source=access.log.gz", data=body, headers=KEY)
    assert response.status_code == 200
    answer: dict[str, Any] = response.get_json()
    return answer
