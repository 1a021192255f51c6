"""Routes of trackers' protocols, through the real app: requests as the clients sent them, and wrong ones."""

from __future__ import annotations

import gzip
import io
import json
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from ingest.errors import SpoolFull
from ingest.event.event import event_id
from ingest.protocols.snowplow import TP2
from tests.fakes import FakePublisher
from tests.support.tracked import BASIC, LIMIT, NOW, ORIGIN, TRACK, app, events, rejects, snowplow

CAPTURED = [
    json.loads(line) for line in Path(__file__).with_name("captured_requests.jsonl").read_text("utf-8").splitlines()
]


@pytest.fixture
def publisher() -> FakePublisher:
    return FakePublisher()


@pytest.fixture
def client(publisher: FakePublisher) -> FlaskClient:
    return app(publisher)


def sent_ids(request: dict[str, Any]) -> set[str]:
    """Message ids in a captured request, however its protocol calls them."""
    body = request["body"]
    if body is None:
        query = request["path"].partition("?")[2].split("&")
        return {part.removeprefix("eid=") for part in query if part.startswith("eid=")}
    messages = body.get("batch") or body.get("data") or [body]
    return {message.get("messageId") or message.get("uuid") or message.get("eid") for message in messages}


@pytest.mark.parametrize(
    "request_", CAPTURED, ids=[f"{r['client']} {r['path'].partition('?')[0]} {n}" for n, r in enumerate(CAPTURED)]
)
def test_what_clients_really_sent_is_taken(request_: dict[str, Any], publisher: FakePublisher) -> None:
    client = app(publisher, max_body_bytes=1_000_000)
    body = json.dumps(request_["body"]).encode() if request_["body"] else b""
    response = client.open(
        request_["path"],
        method=request_["method"],
        data=gzip.compress(body) if request_["gzip"] else body,
        headers=request_["headers"],
    )
    assert response.status_code == 200
    assert rejects(publisher) == []
    got = events(publisher)
    assert {event.message_id for event in got} == sent_ids(request_)
    assert len({event.event_id for event in got}) == len(got)
    for event in got:
        assert event.write_key == "shop"
        assert event.source.sdk
        assert event.user_id == "user-42" or event.event_type == "page_view", (
            "a browser's first page is before identify"
        )
        assert event.anonymous_id or event.event_name in ("alias", "$set", "$create_alias")
        assert not event.device.is_bot or "browser" in request_["client"], "a server's tracker is no bot"
        assert (event.ip is None) == ("browser" not in request_["client"]), "a server's address is no visitor's"
        assert "demo" not in event.properties.values() and '"demo"' not in event.properties.values()


def test_the_captured_requests_are_of_every_client() -> None:
    clients = {request["client"] for request in CAPTURED}
    assert clients == {
        "posthog-python", "rudder-browser", "rudder-browser-beacon", "rudder-node", "rudder-python", "segment-browser",
        "segment-node", "segment-python", "snowplow-browser", "snowplow-browser-get", "snowplow-node",
        "snowplow-node-get", "snowplow-python", "snowplow-python-get",
    }  # fmt: skip


@pytest.mark.parametrize("path", ["/v1/batch", "/v1/import", "/v1/b", "/beacon/v1/batch", "/v1/batch/"])
def test_batches_of_segments_protocol(client: FlaskClient, publisher: FakePublisher, path: str) -> None:
    batch = {"batch": [TRACK, TRACK | {"messageId": "n"}], "sentAt": NOW - 5, "writeKey": "demo"}
    response = client.post(path, data=json.dumps(batch), content_type="text/plain")
    assert (response.status_code, response.json and response.json["success"]) == (200, True)
    assert [(e.message_id, e.occurred_at, e.source.protocol) for e in events(publisher)] == [
        ("m", NOW - 5, "segment"),
        ("n", NOW - 5, "segment"),
    ]


@pytest.mark.parametrize("kind", ["page", "screen", "identify", "track", "group", "alias"])
def test_messages_by_their_long_and_short_names(client: FlaskClient, publisher: FakePublisher, kind: str) -> None:
    message = {name: value for name, value in TRACK.items() if name != "type"}
    for path in (f"/v1/{kind}", f"/v1/{kind[0]}"):
        response = client.post(path, data=json.dumps(message | {"writeKey": "demo"}), content_type="text/plain")
        assert response.status_code == 200
    first, second = events(publisher)
    assert first.event_id == second.event_id == event_id("shop", "m")
    assert first.properties.keys() <= {"message.type", "message.event"}, "the secret is no property"


def test_what_a_batch_says_of_all_its_messages_is_theirs(client: FlaskClient, publisher: FakePublisher) -> None:
    batch = {"batch": [TRACK, TRACK | {"context": {"locale": "fr"}}], "context": {"locale": "de", "ip": "203.0.113.9"}}
    client.post("/v1/batch", json=batch, headers=BASIC)
    assert [(e.properties["context.locale"], e.ip) for e in events(publisher)] == [
        ('"de"', "203.0.113.0"),
        ('"fr"', "203.0.113.0"),
    ]


def test_products_of_one_message_are_events_with_ids_of_their_own(
    client: FlaskClient, publisher: FakePublisher
) -> None:
    order = TRACK | {"event": "Order Completed", "properties": {"products": ["a", "b"]}}
    for _ in range(2):
        client.post("/v1/batch", json={"batch": [TRACK, order]}, headers=BASIC)
    got = [(e.event_id, e.item_id) for e in events(publisher)]
    assert got[1:3] == [(event_id("shop", "m", 0), "a"), (event_id("shop", "m", 1), "b")]
    assert got[:3] == got[3:], "a retry gives the same ids"
    sequences = [event.sequence for event in events(publisher)][:3]
    assert sequences == sorted(set(sequences))


def test_of_a_batch_the_bad_are_kept_and_the_good_taken(client: FlaskClient, publisher: FakePublisher) -> None:
    bad = TRACK | {"timestamp": "soon", "context": {"ip": "203.0.113.9"}}
    response = client.post("/v1/batch", json={"batch": [7, TRACK, bad]}, headers=BASIC)
    assert response.status_code == 200
    assert response.json is not None
    assert (response.json["success"], response.json["accepted"], len(response.json["errors"])) == (True, 1, 2)
    assert [(r["field"], r["payload"]) for r in rejects(publisher)] == [
        ("message", 7),
        ("timestamp", bad | {"context": {"ip": "203.0.113.0"}}),
    ]


def test_an_event_that_names_one_bad_product_is_refused_whole(client: FlaskClient, publisher: FakePublisher) -> None:
    long = "x" * 3000
    order = TRACK | {"event": "Order Completed", "properties": {"products": ["a", long]}}
    client.post("/v1/batch", json={"batch": [order]}, headers=BASIC)
    assert events(publisher) == []
    assert [r["field"] for r in rejects(publisher)] == ["properties.product_id"]


def test_fields_that_the_native_parser_refuses_have_the_senders_names(
    client: FlaskClient, publisher: FakePublisher
) -> None:
    client.post("/v1/batch", json={"batch": [TRACK | {"userId": "u" * 600}]}, headers=BASIC)
    client.post(TP2, data=snowplow({"e": "pv", "aid": "demo", "duid": "d" * 600}))
    client.post("/batch/", json={"api_key": "demo", "batch": [{"event": "x", "distinct_id": "u" * 600}]})
    assert [r["field"] for r in rejects(publisher)] == ["userId", "duid", "distinct_id"]


def test_few_bytes_cannot_become_a_flood_of_events(client: FlaskClient, publisher: FakePublisher) -> None:
    page = {"url": "https://shop.example/" + "x" * 8000}
    products = TRACK | {
        "event": "Product List Viewed",
        "context": {"page": page},
        "properties": {"products": [1] * 250},
    }
    response = client.post("/v1/batch", json={"batch": [TRACK, products]}, headers=BASIC)
    assert response.status_code == 200
    assert len(events(publisher)) == 1
    assert [r["field"] for r in rejects(publisher)] == ["message"]


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/v1/batch", b"", "body"),
        ("/v1/batch", b"{", "body"),
        ("/v1/batch", b"[]", "body"),
        ("/v1/batch", b"\xff\xfe", "body"),
        ("/v1/batch", b"{}", "batch"),
        ("/v1/batch", b'{"batch": {}}', "batch"),
        ("/v1/batch", b"[" * 100_000, "body"),
        ("/v1/batch", gzip.compress(b"{}", mtime=0)[:-4], "body"),
        ("/v1/t", b'"x"', "body"),
        ("/v1/t", b'{"event": 7}', "event"),
        ("/batch/", b"{}", "batch"),
        (TP2, b"{}", "data"),
        (TP2, b'{"data": {}}', "data"),
        (TP2, b"data", "body"),
        (TP2, gzip.compress(b"{}", mtime=0)[:-4], "body"),
    ],
)
def test_a_malformed_body_is_a_400_and_kept(publisher: FakePublisher, path: str, body: bytes, field: str) -> None:
    client = app(publisher, max_body_bytes=1_000_000)
    response = client.post(path, data=body, headers=BASIC)
    assert response.status_code == 400
    assert response.json is not None
    assert response.json["field"] == field
    assert [r["field"] for r in rejects(publisher)] == [field]


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/v1/batch", {"batch": [TRACK], "writeKey": "none"}),
        ("POST", "/v1/batch", {"batch": [TRACK]}),
        ("POST", "/v1/batch?writeKey=shop", {"batch": [TRACK], "writeKey": "demo"}),
        ("POST", "/v1/p", {"anonymousId": "v", "writeKey": 7}),
        ("POST", "/batch/", {"batch": [], "api_key": "none"}),
        ("POST", TP2, {"data": [{"e": "pv", "aid": "none"}]}),
        ("POST", TP2, {"data": []}),
        ("GET", "/i?e=pv", None),
        ("GET", "/i?e=pv&aid=none", None),
        ("GET", "/pixel.gif", None),
    ],
)
def test_an_unknown_key_is_a_401(
    client: FlaskClient, publisher: FakePublisher, method: str, path: str, body: object
) -> None:
    response = client.open(path, method=method, data=json.dumps(body) if body else None)
    assert response.status_code == 401
    assert "WWW-Authenticate" not in response.headers, "a browser would ask its user for a password"
    assert publisher.records == []


@pytest.mark.parametrize("path", ["/v1/batch", "/v1/t", "/batch/", TP2])
def test_what_cannot_be_made_durable_is_a_503_with_a_time_to_return(
    client: FlaskClient, publisher: FakePublisher, path: str
) -> None:
    publisher.failure = SpoolFull("full")
    body = TRACK | {"batch": [TRACK], "data": [{"e": "pv"}]}
    response = client.post(path, json=body, headers=BASIC | {"Origin": ORIGIN})
    assert (response.status_code, response.headers["Retry-After"]) == (503, "2")
    assert "Retry-After" in response.headers["Access-Control-Expose-Headers"]


def test_a_large_body_of_others_is_a_413_also_after_gunzip(client: FlaskClient, publisher: FakePublisher) -> None:
    for body in (b"x" * (LIMIT + 1), gzip.compress(b"x" * 10_000_000)):
        assert client.post("/v1/batch", data=body, headers=BASIC).status_code == 413
    assert publisher.records == []


@pytest.mark.parametrize(
    ("path", "name"), [("/v1/batch", "messageId"), ("/beacon/v1/batch", "messageId"), ("/batch/", "uuid")]
)
def test_of_a_batch_of_too_many_messages_the_rest_is_kept_whole(publisher: FakePublisher, path: str, name: str) -> None:
    """These clients would drop all of it on a 400."""
    client = app(publisher, max_events=3)
    batch = [{"type": "track", "event": "Rated", "distinct_id": "v", name: f"m{n}"} for n in range(8)]
    response = client.post(path, json={"batch": batch, "sentAt": NOW - 5, "sent_at": NOW - 5}, headers=BASIC)
    assert (response.status_code, response.json and response.json["accepted"]) == (200, 3)
    assert response.json is not None
    assert response.json["rejected"] == {"batch: holds more than 3 events": 5}
    assert [event.message_id for event in events(publisher)] == ["m0", "m1", "m2"]
    [reject] = rejects(publisher)
    assert (reject["field"], reject["messages"], reject["payload"]) == ("batch", 5, batch[3:])
    assert (reject["write_key"], reject["sent_at"]) == ("shop", NOW - 5)


def test_millions_of_tiny_elements_are_few_records(publisher: FakePublisher) -> None:
    client = app(publisher, max_body_bytes=1_000_000, max_events=100)
    response = client.post("/v1/batch", data=b'{"batch":[' + b"0," * 490_000 + b"0]}", headers=BASIC)
    assert (response.status_code, response.json and response.json["accepted"]) == (200, 0)
    kept = rejects(publisher)
    assert len(kept) < 100 + 15
    assert sum(one.get("messages", 1) for one in kept) == 490_001


def test_what_a_batch_says_of_all_cannot_become_a_flood_of_rejects(
    client: FlaskClient, publisher: FakePublisher
) -> None:
    batch = {"batch": [{}] * 1000, "context": {"page": "x" * 10_000}}
    response = client.post("/v1/batch", json=batch, headers=BASIC)
    assert (response.status_code, response.json and response.json["field"]) == (400, "context")
    assert [r["field"] for r in rejects(publisher)] == ["context"]


@pytest.mark.parametrize("path", ["/v1/batch", "/v1/t", "/batch/", "/collect", "/collect/access-log?source=x"])
def test_a_large_body_in_chunks_is_a_413(client: FlaskClient, publisher: FakePublisher, path: str) -> None:
    body = {"wsgi.input": io.BytesIO(b" " * (LIMIT + 1)), "wsgi.input_terminated": True, "CONTENT_LENGTH": ""}
    response = client.post(path, environ_overrides=body, headers=BASIC)
    assert (response.status_code, response.json and response.json["field"]) == (413, "body")
    assert publisher.records == []


def test_half_of_an_emoji_is_no_reason_to_refuse(client: FlaskClient, publisher: FakePublisher) -> None:
    """A script that cuts a title by length makes one, and JSON.stringify sends it."""
    body = json.dumps({"batch": [TRACK | {"event": "\ud83d", "properties": {"\udc00": "a\ud83d\ude00", "n": 1}}]})
    assert client.post("/v1/batch", data=body, headers=BASIC).status_code == 200
    [event] = events(publisher)
    assert (event.event_name, event.properties) == ("\ufffd", {"\ufffd": '"a\U0001f600"', "n": "1"})


@pytest.mark.parametrize(
    "path", ["/v1/batch", "/v1/t", "/v1/page", "/beacon/v1/batch", "/batch/", TP2, "/i", "/pixel.gif"]
)
def test_a_known_page_may_ask_for_any_headers(client: FlaskClient, path: str) -> None:
    asked = "anonymousid, authorization, content-type, sentat, rsa-retry-attempt, x-retry-count"
    headers = {"Origin": ORIGIN, "Access-Control-Request-Headers": asked, "Access-Control-Request-Method": "POST"}
    response = client.options(path, headers=headers)
    assert response.status_code == 200
    assert response.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert response.headers["Access-Control-Allow-Credentials"] == "true"
    assert response.headers["Access-Control-Allow-Headers"] == asked
    assert "POST" in response.headers["Access-Control-Allow-Methods"]
    assert response.headers["Vary"] == "Origin"


def test_an_unknown_page_is_told_nothing(client: FlaskClient) -> None:
    response = client.options("/v1/t", headers={"Origin": "https://evil.example"})
    assert not [name for name, _ in response.headers if name.startswith("Access-Control-")]
    assert response.headers["Vary"] == "Origin"
