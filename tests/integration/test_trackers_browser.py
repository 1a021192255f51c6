"""Browsers' trackers, unchanged, in a real browser against the running collector."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import pytest

from infra.settings import Settings
from tests.support.ports import free_ports
from tests.support.servers import running_collector
from tests.support.trackers import KEY, Sent, events_of, is_the_storys, meant, npm_folder, shop

if TYPE_CHECKING:
    from playwright.sync_api import Browser


class Site(SimpleHTTPRequestHandler):
    """Static files, without a log."""

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture(scope="module")
def npm() -> Path:
    return npm_folder()


@pytest.fixture(scope="module")
def ports() -> dict[str, dict[str, int]]:
    return free_ports()


@pytest.fixture(scope="module")
def site(npm: Path, ports: dict[str, dict[str, int]]) -> Iterator[str]:
    """The address of a shop's pages with each tracker."""
    server = ThreadingHTTPServer(("127.0.0.1", ports["webapp"]["port"]), partial(Site, directory=str(npm / "site")))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def own(
    cluster_settings: Settings, ports: dict[str, dict[str, int]], tmp_path_factory: pytest.TempPathFactory
) -> Settings:
    return shop(cluster_settings, ports, tmp_path_factory.mktemp("trackers"))


@pytest.fixture(scope="module")
def collector(own: Settings) -> Iterator[str]:
    with running_collector(own) as running:
        yield running.address


@pytest.mark.parametrize(
    ("client", "count"),
    [
        ("segment", 11),
        ("segment&batching", 11),
        ("rudder", 11),
        ("rudder&beacon", 11),
        ("rudder&batching", 11),
        ("snowplow", 8),
        ("snowplow&batching&plain", 8),
        ("snowplow&method=get", 8),
    ],
)
def test_a_browsers_tracker(
    client: str, count: int, browser: Browser, site: str, collector: str, own: Settings
) -> None:
    url = f"{site}/lamps.html?client={client}&utm_source=letter&{urlencode({'collector': collector, 'key': KEY})}"
    sent = _browsed(browser, url, lambda page: page.wait_for_function("window.finished", timeout=30_000))
    assert len(sent) == count
    for step, events in meant(own, sent).items():
        is_the_storys(step, events, url=url, in_browser=True)


def test_beacons_of_a_page_that_is_left(browser: Browser, site: str, collector: str, own: Settings) -> None:
    url = f"{site}/lamps.html?client=beacon&{urlencode({'collector': collector, 'key': KEY})}"

    def leave(page: Any) -> None:
        page.wait_for_function("window.finished")
        page.goto(f"{site}/lamps.html")
        page.evaluate("window.sent = JSON.parse(sessionStorage.getItem('sent'))")

    sent = _browsed(browser, url, leave)
    assert {one["step"] for one in sent} == {"text", "line", "line2", "multipart", "form", "json"}
    got = events_of(own, sent)
    assert {step: len(events) for step, events in got.items()} == {one["step"]: 1 for one in sent}
    for [event] in got.values():
        assert (event["user_id"], event["page"]["url"], event["source"]["protocol"]) == ("user-42", url, "native")


def test_a_page_of_another_origin_is_not_allowed(browser: Browser, site: str, collector: str) -> None:
    """By its other name, the same page is another origin: the browser itself refuses the answer."""
    with browser.new_context() as context:
        page = context.new_page()
        page.goto(f"{site.replace('127.0.0.1', 'localhost')}/lamps.html")
        fetch = (
            f"fetch('{collector}/v1/t', {{method: 'POST', credentials: 'include', headers: {{authorization: 'x'}}}})"
        )
        refused = page.evaluate(f"{fetch}.then(() => 'answered', (error) => error.message)")
        page.goto(f"{site}/lamps.html")
        answered = page.evaluate(f"{fetch}.then((answer) => answer.status, (error) => error.message)")
    assert (refused, answered) == ("Failed to fetch", 400)  # its body is empty


def test_a_pixel_is_an_image_to_a_browser(browser: Browser, site: str, collector: str, own: Settings) -> None:
    message = f"pixel-{os.getpid()}"
    query = urlencode({"write_key": KEY, "message_id": message, "item_id": "lamp-1", "event_type": "impression"})

    def show(page: Any) -> None:
        size = page.evaluate(
            """source => new Promise((done, fail) => {
                const image = new Image()
                image.onload = () => done([image.naturalWidth, image.naturalHeight])
                image.onerror = fail
                image.src = source
            })""",
            f"{collector}/pixel.gif?{query}",
        )
        assert size == [1, 1]
        page.evaluate(f"window.sent = [{{step: 'pixel', id: '{message}'}}]")

    sent = _browsed(browser, f"{site}/lamps.html", show)
    [event] = events_of(own, sent)["pixel"]
    assert (event["event_type"], event["item_id"], event["page"]["url"]) == ("impression", "lamp-1", f"{site}/")


def _browsed(browser: Browser, url: str, visit: Callable[[Any], object]) -> Sent:
    """What a page says that it sent. Nothing of it may fail, or ask another machine."""
    outside: list[str] = []
    errors: list[str] = []
    with browser.new_context() as context:
        page = context.new_page()
        page.on(
            "request",
            lambda one: None if one.url.startswith(("http://127.0.0.1:", "data:")) else outside.append(one.url),
        )
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.goto(url)
        visit(page)
        sent: Sent = page.evaluate("window.sent")
        page.wait_for_timeout(1000)  # what waits in the tracker's queue goes out
        page.goto("about:blank")
    assert (errors, outside) == ([], [])
    return sent
