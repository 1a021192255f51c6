"""The shop's pages through Flask's client, on exports in memory."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from html import unescape
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pytest
from flask.testing import FlaskClient
from jinja2.bccache import Bucket, BytecodeCache

from infra.errors import ConfigurationError
from infra.settings import Settings
from tests.fakes import FakeExports
from webapp.app import create_app
from webapp.recommendations import RecommendationStore
from webapp.snapshot import Export
from webapp.urls import item_url

STRANGE = '/tags/<b>50% & "more"?#日本'
ITEMS = [*(f"/blog/page-{n}.html" for n in range(30)), STRANGE, "sku-17"]
ANN = 'ann/ä;"1"'  # ids of somebody's own data may hold anything


class Compiled(BytecodeCache):
    """Templates that one test has compiled, for the others."""

    def __init__(self) -> None:
        self._known: dict[str, bytes] = {}

    def load_bytecode(self, bucket: Bucket) -> None:
        if bucket.key in self._known:
            bucket.bytecode_from_string(self._known[bucket.key])

    def dump_bytecode(self, bucket: Bucket) -> None:
        self._known[bucket.key] = bucket.bytecode_to_string()


TEMPLATES = Compiled()


@pytest.fixture
def settings() -> Settings:
    return Settings()


@pytest.fixture
def exports() -> FakeExports:
    return FakeExports({"als-1": an_export()}, current="als-1")


@pytest.fixture
def client(settings: Settings, exports: FakeExports) -> Iterator[FlaskClient]:
    store = RecommendationStore(exports)
    store.refresh()
    app = create_app(settings, store)
    app.jinja_env.bytecode_cache = TEMPLATES
    app.testing = True  # an exception in a view reaches the test
    with app.test_client() as client:
        yield client


def an_export() -> Export:
    pairs = [("/blog/page-0.html", rank, f"/blog/page-{20 + rank}.html", 1.0) for rank in range(3)]
    own = [
        (ANN, rank, item, 1.0, "als")
        for rank, item in enumerate([STRANGE, *(f"/blog/page-{n}.html" for n in range(11, 25))])
    ]
    return Export(
        {
            "for_visitors": table(["visitor_id", "rank", "item_id", "score", "source"], own),
            "similar": table(["item_id", "rank", "similar_item_id", "score"], pairs),
            "popular": table(["rank", "item_id", "score"], [(n, item, 1.0) for n, item in enumerate(ITEMS)]),
            "items": table(["item_id", "title", "path", "views"], [(item, item, item, 1234) for item in ITEMS]),
        },
        {"version": "als-1"},
    )


def table(names: list[str], rows: list[tuple[Any, ...]]) -> Any:
    return pa.table([list(column) for column in zip(*rows, strict=True)], names=names)


def page_data(html: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="page-data">(.*?)</script>', html, re.DOTALL)
    assert found
    data: dict[str, Any] = json.loads(found[1])
    return data


def lists(html: str) -> dict[str, dict[str, Any]]:
    """list id -> its data-* attributes, and the (position, item id, link) of its cards."""
    found = {}
    for attributes, body in re.findall(r"<ul class=\"(?:carousel|grid)\"(.*?)>(.*?)</ul>", html, re.DOTALL):
        data: dict[str, Any] = {k: unescape(v) for k, v in re.findall(r'data-([a-z-]+)="(.*?)"', attributes)}
        cards = re.findall(r'data-item-id="(.*?)" data-position="(\d+)">\s*<a href="(.*?)"', body)
        data["cards"] = [(int(position), unescape(item), unescape(href)) for item, position, href in cards]
        found[data["list-id"]] = data
    return found


def test_home_shows_recommended_and_popular_items_with_positions_from_0(client: FlaskClient) -> None:
    shown = lists(client.get("/").text)
    assert {*shown} == {"home.recommended", "home.popular"}
    for found in shown.values():
        assert [position for position, _, _ in found["cards"]] == list(range(len(found["cards"])))
        assert found["model-version"] == "als-1" and found["source"] == "popular" and found["impression-id"]
        assert all(href == item_url(item) for _, item, href in found["cards"])
    assert [item for _, item, _ in shown["home.popular"]["cards"]] == ITEMS[:24]
    assert len(shown["home.recommended"]["cards"]) == 12


def test_before_the_first_export_the_shop_says_so_and_how_to_get_one(settings: Settings) -> None:
    client = create_app(settings, RecommendationStore(FakeExports())).test_client()
    answer = client.get("/")
    assert answer.status_code == 200 and "Nothing has been learnt yet" in answer.text
    assert "clickstream demo" in answer.text
    assert page_data(answer.text)["modelVersion"] is None
    assert client.get("/item/blog/page-0.html").status_code == 404
    assert client.get("/health").get_json()["version"] is None


@pytest.mark.parametrize("item_id", [ITEMS[0], STRANGE, "sku-17"])
def test_every_item_has_a_page_that_names_it_to_the_tracker(client: FlaskClient, item_id: str) -> None:
    answer = client.get(item_url(item_id))
    assert answer.status_code == 200
    data = page_data(answer.text)
    assert (data["itemId"], data["title"]) == (item_id, item_id)
    assert "1,234 times" in answer.text


def test_what_an_id_contains_is_never_markup(client: FlaskClient) -> None:
    for path in ("/", item_url(STRANGE), "/item/" + quote("<script>alert(1)</script>")):
        assert "<b>50%" not in client.get(path).text
        assert "<script>alert" not in client.get(path).text


@pytest.mark.parametrize(
    ("typed", "item_id"),
    [("/item/sku-17", "sku-17"), ("/item//blog/page-0.html", ITEMS[0]), (f"/item?id={ITEMS[0]}", ITEMS[0])],
)
def test_a_hand_typed_id_finds_its_page(client: FlaskClient, typed: str, item_id: str) -> None:
    answer = client.get(typed, follow_redirects=True)
    assert answer.status_code == 200
    assert page_data(answer.text)["itemId"] == item_id


@pytest.mark.parametrize("path", ["/item/nowhere", "/item", "/item/", "/item?id=nowhere", "/as/nobody", "/nowhere"])
def test_what_is_not_there_is_a_404_page_of_the_shop(client: FlaskClient, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 404
    assert "Clickstream" in answer.text and page_data(answer.text)["itemId"] is None


def test_an_item_page_shows_what_people_also_viewed_and_repeats_nothing(client: FlaskClient) -> None:
    shown = lists(client.get("/item/blog/page-0.html").text)
    also = [item for _, item, _ in shown["item.also_viewed"]["cards"]]
    for_you = [item for _, item, _ in shown["item.recommended"]["cards"]]
    assert shown["item.also_viewed"]["source"] == "similar"
    assert also == [f"/blog/page-{n}.html" for n in (20, 21, 22)]
    assert for_you and not {*also, "/blog/page-0.html"} & {*for_you}


def test_an_item_nobody_compares_shows_popular_items_and_says_so(client: FlaskClient) -> None:
    html = client.get("/item/blog/page-5.html").text
    assert lists(html)["item.also_viewed"]["source"] == "popular"
    assert "People also viewed" not in html and "Popular instead" in html


def test_a_new_visitors_views_change_their_recommendations_at_once(client: FlaskClient) -> None:
    assert lists(client.get("/").text)["home.recommended"]["source"] == "popular"
    client.get("/item/blog/page-0.html")
    shown = lists(client.get("/").text)["home.recommended"]
    assert shown["source"] == "history"
    assert [item for _, item, _ in shown["cards"]][:3] == [f"/blog/page-{n}.html" for n in (20, 21, 22)]


def test_one_can_look_as_a_visitor_that_the_model_knows(client: FlaskClient) -> None:
    href = re.search(r'<a href="(/as/[^"]+)" title="ann', client.get("/").text)
    assert href
    html = client.get(unescape(href[1]), follow_redirects=True).text
    assert page_data(html)["visitor"] == ANN
    shown = lists(html)["home.recommended"]
    assert (shown["source"], shown["cards"][0][1]) == ("for_you", STRANGE)


def test_one_can_become_somebody_new(client: FlaskClient) -> None:
    first = page_data(client.get("/").text)["visitor"]
    client.get("/item/blog/page-0.html")
    html = client.get("/as/", follow_redirects=True).text
    assert page_data(html)["visitor"] != first
    assert lists(html)["home.recommended"]["source"] == "popular"


def test_a_visitor_keeps_the_id_and_the_cookie_is_not_for_scripts(client: FlaskClient) -> None:
    first = client.get("/")
    cookie = first.headers["Set-Cookie"]
    assert cookie.startswith("clickstream_visitor=") and "HttpOnly" in cookie and "SameSite=Lax" in cookie
    again = client.get("/")
    assert "Set-Cookie" not in again.headers
    assert page_data(again.text)["visitor"] == page_data(first.text)["visitor"]


@pytest.mark.parametrize("cookie", ["", "x" * 201, "a%0Ab"])
def test_an_unusable_cookie_is_replaced(client: FlaskClient, cookie: str) -> None:
    client.set_cookie("clickstream_visitor", cookie)
    answer = client.get("/")
    assert "Set-Cookie" in answer.headers and len(page_data(answer.text)["visitor"]) == 36


def test_pages_load_nothing_from_elsewhere_and_talk_to_the_collector_only(client: FlaskClient) -> None:
    for path in ("/", "/item/nowhere", "/static/tracker.js"):
        with client.get(path) as answer:
            headers = answer.headers
        policy = dict(part.split(" ", 1) for part in headers["Content-Security-Policy"].split("; "))
        assert policy["default-src"] == "'none'" and policy["script-src"] == policy["style-src"] == "'self'"
        assert policy["connect-src"] == "'self' http://127.0.0.1:8000"
        assert headers["X-Content-Type-Options"] == "nosniff" and headers["Referrer-Policy"]
    html = client.get("/").text
    assert not re.search(r"<style|\sstyle=|\son[a-z]+=|<script(?![^>]*(src=\"/static/|application/json))", html)
    assert not re.search(r"(?:src|<link[^>]*href)=\"(?!/static/)", html)


def test_a_page_is_one_visitors_and_never_in_a_shared_cache(client: FlaskClient) -> None:
    headers = client.get("/").headers
    assert "private" in headers["Cache-Control"] and headers["Vary"] == "Cookie"


def test_the_tracker_learns_where_and_with_what_key_to_send() -> None:
    settings = Settings(
        collector={"write_keys": {"shop": "s3cret"}},
        webapp={"write_key": "shop", "collector_url": "https://events.example.org/"},
    )
    client = create_app(settings, RecommendationStore(FakeExports())).test_client()
    answer = client.get("/")
    data = page_data(answer.text)
    assert (data["collector"], data["writeKey"]) == ("https://events.example.org/collect", "s3cret")
    assert "connect-src 'self' https://events.example.org;" in answer.headers["Content-Security-Policy"]


def test_a_write_key_that_does_not_exist_is_named_at_the_start() -> None:
    settings = Settings(webapp={"write_key": "shop"})
    with pytest.raises(ConfigurationError, match=r"CLICKSTREAM_WEBAPP__WRITE_KEY: no key 'shop'.*demo"):
        create_app(settings, RecommendationStore(FakeExports()))


def test_the_footer_states_the_model_and_leads_behind_the_scenes(client: FlaskClient, settings: Settings) -> None:
    html = client.get("/").text
    assert "als-1" in html and settings.airflow.address in html and "http://127.0.0.1:9870" in html


def test_health_tells_the_export_and_a_failing_reader(client: FlaskClient, exports: FakeExports) -> None:
    assert client.get("/health").get_json() == {
        "status": "ok",
        "version": "als-1",
        "items": len(ITEMS),
        "visitors": 1,
        "error": None,
    }
    exports.failure = OSError("no NameNode")
    store = client.application.extensions["clickstream"].store
    store.refresh()
    answer = client.get("/health")
    assert (answer.status_code, answer.get_json()["status"]) == (200, "degraded")
    assert client.get("/").status_code == 200


def test_metrics_count_requests_and_lists(client: FlaskClient) -> None:
    client.get("/")
    client.get("/item/nowhere")
    text = client.get("/metrics").text
    assert 'clickstream_webapp_requests_total{endpoint="shop.home",status="200"} 1.0' in text
    assert 'clickstream_webapp_requests_total{endpoint="shop.item",status="404"} 1.0' in text
    assert 'clickstream_webapp_lists_total{list_id="home.popular",source="popular"} 1.0' in text
    assert f"clickstream_webapp_export_items {len(ITEMS)}.0" in text
    assert "Set-Cookie" not in client.get("/metrics").headers
