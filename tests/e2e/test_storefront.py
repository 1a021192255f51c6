"""What a person does in the shop reaches the collector: real Chromium, the real app, a recorder as collector."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, TypeVar

import pyarrow as pa
import pytest
from werkzeug.serving import make_server

from infra.settings import Settings
from ingest.event.context import Context
from ingest.protocols.native import parse
from tests.fakes import FakeExports
from webapp.app import create_app
from webapp.recommendations import RecommendationStore
from webapp.snapshot import Export

if TYPE_CHECKING:
    from playwright.sync_api import Page

T = TypeVar("T")
ITEMS = [f"/blog/page-{n:02d}.html" for n in range(40)]


class Recorder(ThreadingHTTPServer):
    """A collector that keeps what it is sent, events and the requests' content types."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.messages: list[dict[str, Any]] = []
        self.content_types: list[str] = []
        self.arrived = threading.Condition()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def events(self, event_type: str, list_id: str | None = None) -> list[dict[str, Any]]:
        """What came so far, of one type and, where named, of one list."""
        with self.arrived:
            all_ = [event for message in self.messages for event in message["batch"]]
        return [e for e in all_ if e["event_type"] == event_type and list_id in (None, e.get("list_id"))]

    def wait_for(self, event_type: str, count: int, list_id: str | None = None) -> list[dict[str, Any]]:
        """The same, once there are `count`; fails after ten seconds."""
        with self.arrived:
            enough = self.arrived.wait_for(lambda: len(self.events(event_type, list_id)) >= count, timeout=10)
        assert enough, f"no {count} {event_type} events: {self.messages}"
        return self.events(event_type, list_id)


class _Handler(BaseHTTPRequestHandler):
    server: Recorder

    def do_POST(self) -> None:
        message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.arrived:
            self.server.content_types.append(self.headers["Content-Type"])
            self.server.messages.append({**message, "path": self.path})
            self.server.arrived.notify_all()
        self.send_response(200)
        self.send_header("Access-Control-Allow-Origin", "*")
        self.end_headers()

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def collector() -> Iterator[Recorder]:
    with Recorder() as server:
        yield from _serving(server, server)


@pytest.fixture
def shop(collector: Recorder) -> Iterator[str]:
    """The shop's URL."""
    settings = Settings(collector={"url": collector.url, "write_keys": {"demo": "s3cret"}})
    store = RecommendationStore(FakeExports({"als-1": an_export()}, current="als-1"))
    assert store.refresh() == "loaded"
    server = make_server("127.0.0.1", 0, create_app(settings, store), threaded=True)
    yield from _serving(server, f"http://127.0.0.1:{server.server_port}")
    server.server_close()


def _serving(server: Any, value: T) -> Iterator[T]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield value
    server.shutdown()
    thread.join()


def an_export() -> Export:
    similar = [
        (item, rank, other) for item in ITEMS for rank, other in enumerate([i for i in ITEMS[::-1] if i != item][:15])
    ]
    return Export(
        {
            "for_visitors": pa.table(
                {"visitor_id": ["ann"], "rank": [0], "item_id": [ITEMS[7]], "score": [1.0], "source": ["als"]}
            ),
            "similar": pa.table(
                {
                    "item_id": [item for item, _, _ in similar],
                    "rank": [rank for _, rank, _ in similar],
                    "similar_item_id": [other for _, _, other in similar],
                    "score": [1.0] * len(similar),
                }
            ),
            "popular": pa.table({"rank": range(40), "item_id": ITEMS, "score": [1.0] * 40}),
            "items": pa.table(
                {"item_id": ITEMS, "title": [f"Page {n}" for n in range(40)], "path": ITEMS, "views": [5] * 40}
            ),
        },
        {},
    )


def test_a_page_view_names_visitor_page_item_and_model(shop: str, collector: Recorder, browser_page: Page) -> None:
    browser_page.goto(shop)
    browser_page.goto(f"{shop}/item/blog/page-03.html?from=test")
    home, item = collector.wait_for("page_view", 2)
    assert "item_id" not in home and home["page"]["path"] == "/"
    assert item["item_id"] == "/blog/page-03.html"
    assert item["page"]["url"] == f"{shop}/item/blog/page-03.html?from=test"
    assert (item["page"]["path"], item["page"]["title"]) == ("/item/blog/page-03.html", "Page 3")
    assert item["model_version"] == "als-1"
    cookie = next(c for c in browser_page.context.cookies() if c["name"] == "clickstream_visitor")
    assert item["anonymous_id"] == home["anonymous_id"] == cookie["value"]
    assert item["message_id"] != home["message_id"] and len(item["message_id"]) == 36
    assert abs(item["occurred_at"] - collector.messages[-1]["sent_at"]) < 10_000


def test_messages_are_what_a_beacon_may_send(shop: str, collector: Recorder, browser_page: Page) -> None:
    browser_page.goto(shop)
    collector.wait_for("page_view", 1)
    assert {message["path"] for message in collector.messages} == {"/collect"}
    assert {message["write_key"] for message in collector.messages} == {"s3cret"}
    assert all(type_.startswith("text/plain") for type_ in collector.content_types)


def test_the_collector_takes_every_event_without_a_remark(shop: str, collector: Recorder, browser_page: Page) -> None:
    browser_page.goto(shop)
    collector.wait_for("impression", 3)
    browser_page.locator("[data-list-id='home.recommended'] [data-position='0'] a").click()
    collector.wait_for("page_view", 2)
    types = set()
    for message in collector.messages:
        context = Context(write_key="demo", received_at=message["sent_at"], sent_at=message["sent_at"])
        for payload in message["batch"]:
            event = parse(payload, context)
            assert event.flags == ()
            assert event.message_id == payload["message_id"]
            types.add(event.event_type)
    assert types == {"page_view", "impression", "click"}


def test_only_cards_that_came_into_view_make_impressions_and_each_once(
    shop: str, collector: Recorder, browser_page: Page
) -> None:
    browser_page.goto(shop)
    first = collector.wait_for("impression", 3, "home.recommended")
    assert [e["position"] for e in first] == list(range(len(first)))
    assert len(first) < 12
    assert [e["item_id"] for e in first] == ITEMS[: len(first)]

    forward, back = (browser_page.get_by_role("button", name=name).first for name in ("Forward", "Back"))
    for button in (forward, back):
        while button.is_enabled():
            button.click()
            browser_page.wait_for_timeout(300)  # the scroll is smooth
    browser_page.goto("about:blank")  # what is not sent yet is sent on leaving
    every = collector.wait_for("impression", 12, "home.recommended")
    assert sorted(e["position"] for e in every) == list(range(12))
    assert len({e["impression_id"] for e in every}) == 1
    assert len({e["message_id"] for e in every}) == 12


def test_impressions_travel_in_few_messages(shop: str, collector: Recorder, browser_page: Page) -> None:
    browser_page.goto(shop)
    assert len(collector.wait_for("impression", 4)) >= 4
    assert len(collector.messages) <= 2


def test_a_click_tells_its_place_in_the_list_and_answers_to_the_showing(
    shop: str, collector: Recorder, browser_page: Page
) -> None:
    browser_page.goto(shop)
    shown = {e["item_id"]: e for e in collector.wait_for("impression", 3, "home.recommended")}
    browser_page.locator("[data-list-id='home.recommended'] [data-position='2'] a").click()
    browser_page.wait_for_url("**/item/blog/page-02.html")
    (click,) = collector.wait_for("click", 1)
    assert (click["list_id"], click["position"], click["item_id"]) == ("home.recommended", 2, ITEMS[2])
    assert click["impression_id"] == shown[ITEMS[2]]["impression_id"]
    assert (click["model_version"], click["properties"]) == ("als-1", {"source": "popular"})
    assert click["page"]["path"] == "/"
    also = collector.wait_for("impression", 3, "item.also_viewed")
    assert {e["properties"]["source"] for e in also} == {"similar"}


def test_the_carousel_obeys_the_keyboard(shop: str, browser_page: Page) -> None:
    from playwright.sync_api import expect

    browser_page.goto(shop)
    back, forward = (browser_page.get_by_role("button", name=name).first for name in ("Back", "Forward"))
    expect(back).to_be_disabled()
    browser_page.locator("[data-list-id='home.recommended']").focus()
    browser_page.keyboard.press("ArrowRight")
    expect(back).to_be_enabled()
    expect(forward).to_be_enabled()
    browser_page.keyboard.press("End")
    expect(forward).to_be_disabled()


def test_a_browser_without_beacons_and_random_uuids_delivers_too(
    shop: str, collector: Recorder, browser_page: Page
) -> None:
    browser_page.add_init_script("navigator.sendBeacon = () => false; delete Crypto.prototype.randomUUID;")
    browser_page.goto(shop)
    browser_page.locator("[data-list-id='home.recommended'] [data-position='1'] a").click()
    clicks = collector.wait_for("click", 1)
    # leaving the page may cut off the answer to a request that arrived; sent again, it is the same event
    click = clicks[0]
    assert click["position"] == 1
    assert {c["message_id"] for c in clicks} == {click["message_id"]}
    assert str(uuid.UUID(click["message_id"], version=4)) == click["message_id"]


def test_nothing_on_a_page_breaks_its_own_content_policy(shop: str, collector: Recorder, browser_page: Page) -> None:
    complaints: list[str] = []
    browser_page.on("console", lambda message: complaints.append(message.text))
    for path in ("/", "/item/blog/page-03.html"):
        browser_page.goto(shop + path)
    collector.wait_for("page_view", 2)
    assert complaints == []


@pytest.mark.parametrize("width", [360, 768, 1280])
def test_no_page_scrolls_sideways(shop: str, browser_page: Page, width: int) -> None:
    browser_page.set_viewport_size({"width": width, "height": 800})
    for path in ("/", "/item/blog/page-03.html", "/item/nowhere"):
        browser_page.goto(shop + path)
        assert browser_page.evaluate("document.documentElement.scrollWidth") <= width, path
