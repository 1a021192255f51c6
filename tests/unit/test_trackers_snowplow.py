"""Routes of Snowplow's trackers, which have no key but an app id, and repeat for ever what gets a 413."""

from __future__ import annotations

import gzip
import io

import pytest
from flask.testing import FlaskClient

from ingest.protocols.pixel import GIF
from ingest.protocols.snowplow import TP2
from tests.fakes import FakePublisher
from tests.support.tracked import BASIC, BROWSER, LIMIT, app, events, rejects, snowplow


@pytest.fixture
def publisher() -> FakePublisher:
    return FakePublisher()


@pytest.fixture
def client(publisher: FakePublisher) -> FlaskClient:
    return app(publisher)


def test_snowplows_app_id_is_its_key(client: FlaskClient, publisher: FakePublisher) -> None:
    one, other = {"e": "pv", "aid": "demo", "eid": "1"}, {"e": "pv", "aid": "blog-key", "eid": "2"}
    response = client.post(TP2, data=snowplow(one, other, {"e": "pv", "aid": "none", "eid": "3"}))
    assert (response.status_code, response.data) == (200, b"ok")
    got = sorted((e.message_id, e.write_key, dict(e.properties)) for e in events(publisher))
    assert got == [("1", "shop", {}), ("2", "blog", {})], "a secret is no property"
    assert [(r["field"], r["payload"]["eid"]) for r in rejects(publisher)] == [("aid", "3")]


def test_a_key_of_the_request_leaves_the_app_id_what_it_is(client: FlaskClient, publisher: FakePublisher) -> None:
    client.post(f"{TP2}?writeKey=demo", data=snowplow({"e": "pv", "aid": "app"}))
    [event] = events(publisher)
    assert (event.write_key, event.properties) == ("shop", {"snowplow.aid": '"app"'})


@pytest.mark.parametrize("zipped", [False, True])
def test_of_an_oversized_snowplow_request_what_fits_is_taken(
    client: FlaskClient, publisher: FakePublisher, zipped: bool
) -> None:
    body = snowplow(*({"e": "pv", "aid": "demo", "eid": f"m{n}", "url": "x" * 900} for n in range(40))).encode()
    assert len(body) > LIMIT
    response = client.post(TP2, data=gzip.compress(body) if zipped else body)
    assert response.status_code == 200
    taken = len(events(publisher))
    assert [event.message_id for event in events(publisher)] == [f"m{n}" for n in range(taken)]
    assert taken == LIMIT // 960
    [reject] = rejects(publisher)
    assert (reject["field"], reject["reason"], reject["write_key"]) == ("body", f"is larger than {LIMIT} bytes", "shop")
    assert reject["payload"].startswith(f'{{"e": "pv", "aid":"[redacted]", "eid": "m{taken}"')


def test_a_snowplow_request_of_one_event_that_is_too_large_is_no_413(
    client: FlaskClient, publisher: FakePublisher
) -> None:
    body = snowplow({"e": "pv", "aid": "demo", "eid": "1", "url": "x" * LIMIT})
    assert client.post(TP2, data=body).status_code == 200
    assert events(publisher) == []
    assert [r["write_key"] for r in rejects(publisher)] == ["shop"]
    unknown = snowplow({"e": "pv", "aid": "none", "url": "x" * LIMIT})
    assert client.post(TP2, data=unknown).status_code == 401
    assert client.post(TP2, data=gzip.compress(b"x" * 10_000_000), headers=BASIC).status_code == 200


def test_of_a_request_without_a_whole_event_what_was_cut_is_kept_whatever_page_sent_it(
    client: FlaskClient, publisher: FakePublisher
) -> None:
    """Nobody is admitted where nothing is taken: without events no page is refused, and the reject is not lost."""
    headers = BASIC | {"Origin": "https://elsewhere.example"}
    assert client.post(TP2, data=snowplow(), headers=headers).status_code == 200
    assert client.post(TP2, data=snowplow({"e": "pv", "page": "x" * LIMIT}), headers=headers).status_code == 200
    [reject] = rejects(publisher)
    assert (reject["field"], reject["write_key"]) == ("body", "shop")


def test_snowplows_pixel_answers_with_one(client: FlaskClient, publisher: FakePublisher) -> None:
    response = client.get("/i?e=pv&aid=demo&eid=1&url=https%3A%2F%2Fshop.example%2Fl%C3%A4mp", headers=BROWSER)
    assert (response.status_code, response.content_type, response.data) == (200, "image/gif", GIF)
    [event] = events(publisher)
    assert (event.message_id, event.page.path, event.ip) == ("1", "/lämp", "127.0.0.0")
    assert client.get("/i?aid=demo").status_code == 400
    assert [r["field"] for r in rejects(publisher)] == ["e"]


def test_snowplows_anonymous_mode_keeps_no_address(client: FlaskClient, publisher: FakePublisher) -> None:
    client.get("/i?e=pv&aid=demo", headers=BROWSER | {"SP-Anonymous": "*"})
    assert [event.ip for event in events(publisher)] == [None]


def test_a_chunked_snowplow_request_is_no_413(client: FlaskClient, publisher: FakePublisher) -> None:
    body = snowplow(*({"e": "pv", "aid": "demo", "eid": f"m{n}", "url": "x" * 900} for n in range(40))).encode()
    chunked = {"wsgi.input": io.BytesIO(body), "wsgi.input_terminated": True, "CONTENT_LENGTH": ""}
    assert client.post(TP2, environ_overrides=chunked).status_code == 200
    assert len(events(publisher)) == LIMIT // 960


def test_of_a_snowplow_request_of_too_many_events_the_rest_is_kept_under_no_secret(publisher: FakePublisher) -> None:
    client = app(publisher, max_events=3)
    sent = [{"e": "pv", "aid": aid, "eid": str(n)} for n, aid in enumerate(["demo", "none", *["demo", "other"] * 3])]
    assert client.post(TP2, data=snowplow(*sent)).status_code == 200
    assert [event.message_id for event in events(publisher)] == ["0", "2"]
    unknown, rest = rejects(publisher)
    assert (unknown["field"], unknown["payload"]["eid"]) == ("aid", "1")
    assert (rest["field"], rest["messages"], rest["write_key"]) == ("batch", 5, "shop")
    assert rest["payload"] == [{name: value for name, value in one.items() if value != "demo"} for one in sent[3:]]


def test_of_a_cut_snowplow_request_no_half_of_a_secret_is_kept(client: FlaskClient, publisher: FakePublisher) -> None:
    good = snowplow({"e": "pv", "aid": "demo"}).removesuffix("]}")
    body = good + ", " + '{"e": "pv", "url": "' + "x" * LIMIT
    body = body[: LIMIT - 12] + '", "aid": "demo", "x": 1}]}'
    assert client.post(TP2, data=body).status_code == 200
    [reject] = rejects(publisher)
    assert reject["payload"].endswith('"aid":"[redacted]')


def test_an_oversized_request_of_tiny_elements_is_few_records(publisher: FakePublisher) -> None:
    client = app(publisher, max_body_bytes=1_000_000, max_events=100)
    body = '{"data":[' + '{"aid":"demo"},' * 70_000
    assert client.post(TP2, data=body).status_code == 200
    *read, rest = rejects(publisher)
    assert (len(read), rest["truncated"], "demo" in rest["payload"]) == (100, True, False)
