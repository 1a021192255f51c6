"""Routes of PostHog's batches, pixels and forms."""

from __future__ import annotations

import base64
import gzip
import json
from typing import Any

import pytest
from flask.testing import FlaskClient

from ingest.protocols.pixel import GIF
from tests.fakes import FakePublisher
from tests.support.tracked import BROWSER, NOW, app, events, rejects


@pytest.fixture
def publisher() -> FakePublisher:
    return FakePublisher()


@pytest.fixture
def client(publisher: FakePublisher) -> FlaskClient:
    return app(publisher)


def test_posthog_gets_the_answer_that_it_likes(client: FlaskClient, publisher: FakePublisher) -> None:
    batch = {"api_key": "demo", "batch": [{"event": "x", "distinct_id": "u", "uuid": "1"}], "sent_at": "odd"}
    for path in ("/batch/", "/batch"):
        response = client.post(path, data=gzip.compress(json.dumps(batch).encode()))
        assert response.status_code == 200
        assert response.json is not None
        assert response.json["status"] == 1
    assert [(e.message_id, e.user_id, e.source.protocol) for e in events(publisher)] == [("1", "u", "posthog")] * 2


def test_a_bare_pixel_is_a_view_of_the_page_that_shows_it(client: FlaskClient, publisher: FakePublisher) -> None:
    response = client.get(
        "/pixel.gif?write_key=demo", headers=BROWSER | {"Referer": "https://shop.example/a?utm_source=x"}
    )
    assert (response.status_code, response.data, response.headers["Cache-Control"]) == (200, GIF, "no-store")
    [event] = events(publisher)
    assert (event.event_type, event.page.path, event.campaign) == ("page_view", "/a", {"source": "x"})
    assert (event.occurred_at, event.source.protocol) == (NOW, "pixel")
    [cookie] = response.headers.getlist("Set-Cookie")
    assert cookie.startswith(f"clickstream_id={event.anonymous_id};") and "HttpOnly" in cookie and "Secure" in cookie
    assert event.device.browser == "Chrome"


def test_a_pixels_parameters_are_native_fields(client: FlaskClient, publisher: FakePublisher) -> None:
    query = (
        "event_type=purchase&item_id=a&value=9.5&quantity=2&currency=eur&anonymous_id=v&url=/thanks&color=red&user_id="
    )
    client.get(f"/pixel.gif?writeKey=demo&{query}&occurred_at={NOW - 5}", headers={"Referer": "https://other.example/"})
    [event] = events(publisher)
    assert (event.event_type, event.item_id, event.value, event.quantity) == ("purchase", "a", 9.5, 2)
    assert (event.page.url, event.properties, event.occurred_at) == ("/thanks", {"color": '"red"'}, NOW - 5)


@pytest.mark.parametrize("encode", [lambda raw: raw.decode(), lambda raw: base64.b64encode(raw).decode()])
def test_a_pixel_may_carry_a_whole_event(client: FlaskClient, publisher: FakePublisher, encode: Any) -> None:
    data = {"event_type": "click", "anonymous_id": "v", "message_id": "m", "properties": {"n": 1, "t": "~~~???>>>"}}
    client.get("/pixel.gif", query_string={"write_key": "demo", "data": encode(json.dumps(data).encode())})
    [event] = events(publisher)
    assert (event.event_type, event.message_id, event.properties) == ("click", "m", {"n": "1", "t": '"~~~???>>>"'})


@pytest.mark.parametrize(
    ("query", "field"),
    [("value=much", "value"), ("position=-1", "position"), ("data=%7B", "data"), ("event_type=x", "event_type"),
     ("occurred_at=soon", "occurred_at")],
)  # fmt: skip
def test_a_wrong_pixel_is_a_400_and_kept(client: FlaskClient, publisher: FakePublisher, query: str, field: str) -> None:
    response = client.get(f"/pixel.gif?write_key=demo&{query}")
    assert (response.status_code, response.json and response.json["field"]) == (400, field)
    assert [r["field"] for r in rejects(publisher)] == [field]


@pytest.mark.parametrize("multipart", [True, False])
def test_a_form_may_hold_native_events(client: FlaskClient, publisher: FakePublisher, multipart: bool) -> None:
    event = json.dumps({"event_type": "click", "occurred_at": NOW, "anonymous_id": "v", "properties": {"t": "a&b=ü +"}})
    form = {"data": event, "write_key": "demo"}
    response = client.post("/collect", data=form, content_type="multipart/form-data" if multipart else None)
    assert response.status_code == 200
    assert [e.properties for e in events(publisher)] == [{"t": '"a&b=ü +"'}]


def test_a_forms_unknown_field_is_refused(client: FlaskClient) -> None:
    response = client.post("/collect?write_key=demo", data={"data": "{}", "color": "red"})
    assert (response.status_code, response.json and response.json["field"]) == (400, "color")


def test_a_broken_multipart_form_is_a_400(client: FlaskClient) -> None:
    response = client.post(
        "/collect?write_key=demo", data=b"--x\r\nContent-Disposition: form-data; name=data\r\n\r\n{}"
    )
    assert response.status_code == 400
