"""The rules of who may send what, and of what may be kept, seen over HTTP."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from infra.settings import Settings
from infra.settings.collector import Collector
from ingest.event import codec
from ingest.event.event import ClickEvent
from ingest.http.app import create_app
from tests.fakes import FakePublisher

NOW = 1_795_260_000_000
KEY = {"X-Write-Key": "demo"}
Serve = Callable[..., FlaskClient]


@pytest.fixture
def publisher() -> FakePublisher:
    return FakePublisher()


@pytest.fixture
def serve(tmp_path: Path, publisher: FakePublisher) -> Serve:
    """Makes a client of a collector with these settings."""

    def make(**collector: Any) -> FlaskClient:
        settings = Settings(home=tmp_path, collector=Collector.model_validate(collector))
        return create_app(settings, publisher, now=lambda: NOW).test_client()

    return make


def event(**fields: Any) -> dict[str, Any]:
    return {"event_type": "page_view", "occurred_at": NOW, "anonymous_id": "ann"} | fields


def events(publisher: FakePublisher) -> list[ClickEvent]:
    return [codec.decode(value) for value in publisher.on("clicks")]


def rejects(publisher: FakePublisher) -> list[dict[str, Any]]:
    return [json.loads(value) for value in publisher.on("clicks.rejected")]


def metric(client: FlaskClient, line: str) -> bool:
    return line in client.get("/metrics").text


def test_anonymous_mode_keeps_no_identifier_and_counts_still_work(serve: Serve, publisher: FakePublisher) -> None:
    client = serve(privacy={"anonymous": True})
    sent = event(user_id="u1", client_session_id="s1", ip="203.0.113.9", properties={"email": "a@b.c", "size": 3})
    response = client.post("/collect", json=sent, headers=KEY | {"Origin": "https://shop.example"})
    assert response.status_code == 200 and "Set-Cookie" not in response.headers
    [kept] = events(publisher)
    assert (kept.anonymous_id, kept.user_id, kept.client_session_id, kept.ip) == (None, None, None, None)
    assert kept.properties == {"size": "3"} and "anonymous" in kept.flags
    assert metric(client, 'clickstream_collector_rules_total{what="anonymous"} 1.0')


def test_a_browser_that_wants_no_record_is_counted_and_nothing_is_kept(serve: Serve, publisher: FakePublisher) -> None:
    client = serve(privacy={"gpc": "drop"})
    answer = client.post("/collect", json=[event(), event()], headers=KEY | {"Sec-GPC": "1"}).json
    assert answer == {"accepted": 0, "filtered": {"gpc": 2}, "rejected": {}, "errors": []}
    assert publisher.records == []
    assert client.post("/collect", json=event(), headers=KEY).json["accepted"] == 1


def test_names_that_are_never_stored_are_in_no_event_and_in_no_reject(serve: Serve, publisher: FakePublisher) -> None:
    client = serve(privacy={"never_store": ["card*"]})
    good, bad = (
        event(properties={"cardNumber": "4111"}),
        event(event_type="nonsense", properties={"cardNumber": "4111"}),
    )
    client.post("/collect", json=[good, bad], headers=KEY)
    assert len(events(publisher)) == len(rejects(publisher)) == 1
    assert b"4111" not in b"".join(record.value for record in publisher.records)


def test_events_of_an_unknown_key_are_refused_or_kept_aside(serve: Serve, publisher: FakePublisher) -> None:
    assert serve().post("/collect", json=event(), headers={"X-Write-Key": "stolen"}).status_code == 401
    assert publisher.records == []
    client = serve(unknown_write_key="quarantine")
    response = client.post("/collect", json=event(), headers={"X-Write-Key": "stolen"})
    assert (response.status_code, response.json["quarantined"], response.json["rejected"]) == (200, 1, {})
    [kept] = rejects(publisher)
    assert (kept["field"], kept["write_key"], kept["payload"]["event_type"]) == ("write_key", "", "page_view")
    assert client.post("/v1/batch", json={"batch": [{}], "writeKey": "stolen"}).status_code == 200
    assert events(publisher) == [] and len(rejects(publisher)) == 2


def test_a_key_with_origins_serves_only_their_pages_and_servers(serve: Serve, publisher: FakePublisher) -> None:
    keys = {"shop": {"secret": "s", "origins": ["https://shop.example"]}}
    client = serve(write_keys=keys)

    def status(origin: str | None) -> int:
        headers = {"X-Write-Key": "s"} | ({"Origin": origin} if origin else {})
        return client.post("/collect", json=event(), headers=headers).status_code

    assert [status(origin) for origin in ("https://shop.example", None, "https://evil.example")] == [200, 200, 403]
    assert len(events(publisher)) == 2
    preflight = client.options("/collect", headers={"Origin": "https://shop.example"})
    assert preflight.headers["Access-Control-Allow-Origin"] == "https://shop.example"


def test_beyond_the_rate_the_answer_is_429_and_says_when_to_come_back(serve: Serve, publisher: FakePublisher) -> None:
    client = serve(rates={"key": "5/minute"})
    assert client.post("/collect", json=[event()] * 4, headers=KEY).status_code == 200
    response = client.post("/collect", json=[event()] * 4, headers=KEY)
    assert response.status_code == 429 and 0 < int(response.headers["Retry-After"]) <= 120
    assert len(events(publisher)) == 4
    assert metric(client, 'clickstream_collector_events_total{key="demo",outcome="limited",protocol="native"} 4.0')


def test_a_batch_of_too_many_events_is_refused_by_name(serve: Serve, publisher: FakePublisher) -> None:
    client = serve(max_events=3)
    response = client.post("/collect", json=[event()] * 4, headers=KEY)
    assert (response.status_code, response.json["field"]) == (400, "batch")
    assert events(publisher) == []


@pytest.mark.parametrize("lines", [True, False])
def test_a_batch_of_too_many_events_is_kept_and_says_where_it_is_cut(
    serve: Serve, publisher: FakePublisher, lines: bool
) -> None:
    client = serve(max_events=3)
    separator = "\n" if lines else ","
    for count in (4, 3000):
        text = separator.join([json.dumps(event())] * count)
        client.post("/collect", data=text if lines else f"[{text}]", headers=KEY)
    short, long = (json.loads(value) for value in publisher.on("clicks.rejected"))
    assert (short["field"], short["payload"].count("event_type"), "truncated" in short) == ("batch", 4, False)
    assert (long["payload"].count("event_type") < 3000, long["truncated"]) == (True, True)


@pytest.mark.parametrize("name", ["run", "source"])
def test_what_is_stored_with_each_event_of_a_request_is_short(
    serve: Serve, publisher: FakePublisher, name: str
) -> None:
    response = serve().post(f"/collect?{name}=" + "r" * 600, json=[event()] * 9, headers=KEY)
    assert (response.status_code, response.json["field"]) == (400, name)
    assert publisher.records == []


def test_a_body_whose_envelope_is_wrong_is_kept_under_the_key_that_it_names(
    serve: Serve, publisher: FakePublisher
) -> None:
    body = {"write_key": "secret-1", "batch": [event()], "color": "red"}
    response = serve(write_keys={"shop": "secret-1"}).post("/collect", json=body)
    assert (response.status_code, response.json["field"]) == (400, "color")
    [kept] = publisher.on("clicks.rejected")
    assert json.loads(kept)["write_key"] == "shop"
    assert "secret" not in json.loads(kept)["payload"]


def test_a_browser_without_an_id_gets_a_cookie_and_keeps_it(serve: Serve, publisher: FakePublisher) -> None:
    client = serve()
    nameless = event()
    del nameless["anonymous_id"]
    page = KEY | {"Origin": "https://shop.example"}
    first = client.post("/collect", json=nameless, headers=page)
    [cookie] = first.headers.getlist("Set-Cookie")
    name, value = cookie.split(";")[0].split("=")
    client.post("/collect", json=nameless, headers=page | {"Cookie": f"{name}={value}"})
    client.post("/collect", json=event(), headers=page | {"Cookie": f"{name}={value}"})
    assert [kept.anonymous_id for kept in events(publisher)] == [value, value, "ann"]
    assert serve().post("/collect", json=nameless, headers=KEY).status_code == 400  # a server has no visitor to name


def test_what_the_tracking_plan_does_not_know_waits_aside(
    serve: Serve, publisher: FakePublisher, tmp_path: Path
) -> None:
    pytest.importorskip("jsonschema_rs", reason="the extra `plan` is not installed")
    plan = tmp_path / "plan"
    plan.mkdir()
    (plan / "Signed Up.json").write_text('{"properties": {"plan": {"type": "string"}}, "required": ["plan"]}')
    client = serve(tracking_plan={"folder": str(plan), "unknown_event": "warn", "invalid": "quarantine"})
    good, bad = ({"event_type": "custom", "event_name": "Signed Up", "properties": p} for p in ({"plan": "pro"}, {}))
    answer = client.post("/collect", json=[event(**good), event(**bad)], headers=KEY).json
    assert (answer["accepted"], answer["quarantined"], answer["rejected"]) == (1, 1, {})
    assert [kept["payload"]["event_name"] for kept in rejects(publisher)] == ["Signed Up"]
