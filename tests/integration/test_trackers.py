"""The trackers themselves, unchanged, against the running collector: each message is once in Kafka, as it was meant."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import pytest
import requests

from infra.policy import WriteKey
from infra.settings import Settings
from ingest.tail import tail
from tests.browser import chromium
from tests.conftest import free_ports
from tests.integration.sandbox import own_topics
from tests.waiting import eventually

if TYPE_CHECKING:
    from playwright.sync_api import Browser

CLIENTS = Path(__file__).parents[1] / "clients"
STORY: dict[str, Any] = json.loads((CLIENTS / "story.json").read_text("utf-8"))
KEY = "shop-key"
Event = dict[str, Any]
Sent = list[dict[str, str]]

LAMP = {"item_id": "lamp-1", "currency": "EUR", "quantity": 2}
BULB = {"item_id": "lamp-2", "currency": "EUR", "quantity": 1}
LINES = [LAMP | {"value": 39.0}, BULB | {"value": 20.5}]
# What each step of the story is here, whichever tracker told it: an event a dict, by rising position.
MEANT: dict[str, list[Event]] = {
    "page": [{"event_type": "page_view", "item_id": None}],
    "ping": [{"event_type": "custom", "event_name": "page_ping"}],
    "list": [
        LAMP | {"event_type": "impression", "list_id": "lamps", "position": 0},
        BULB | {"event_type": "impression", "list_id": "lamps", "position": 1},
    ],
    "click": [LAMP | {"event_type": "click", "list_id": "lamps", "position": 0}],
    "view": [LAMP | {"event_type": "page_view"}],
    "cart": [LAMP | {"event_type": "add_to_cart", "value": 39.0}],
    "order": [line | {"event_type": "purchase", "order_id": "order-1001"} for line in LINES],
    "search": [{"event_type": "search"}],
    "link": [{"event_type": "click", "event_name": "link_click"}],
    "struct": [{"event_type": "add_to_cart", "item_id": "lamp-1", "quantity": 2}],
    "oldcart": [LAMP | {"event_type": "add_to_cart", "value": 39.0}],
    "transaction": [{"event_type": "custom", "order_id": "order-1001", "value": 59.5}],
    "item": [LAMP | {"event_type": "purchase", "order_id": "order-1001", "value": 39.0}],
    "custom": [{"event_type": "custom", "item_id": None}],
    "identify": [{"event_type": "identify"}],
    "alias": [{"event_type": "identify"}],
    "group": [{"event_type": "identify"}],
}
PROPERTIES: dict[str, Event] = {
    "list": {"name": "Lamp", "price": 19.5, "position": 1},
    "order": {"name": "Lamp", "price": 19.5, "order.revenue": 59.5},
    "custom": {"stars": 5, "verified": True, "tags": ["warm", "dim"]},
    "alias": {"previousId": "visitor-0000"},
    "group": {"groupId": "group-9", "seats": 3},
}


class Site(SimpleHTTPRequestHandler):
    """Static files, without a log."""

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture(scope="module")
def npm() -> Path:
    """A folder with the npm trackers as locked, the drivers, and site/, their bundles for browsers.

    Outside the tree, so that it lasts; made anew when a version changes. Needs Node of 20 or later.
    """
    if not shutil.which("npm") or not shutil.which("node"):
        pytest.skip("no Node: node and npm are not on the PATH")
    if int(_run(["node", "--version"]).removeprefix("v").partition(".")[0]) < 20:
        pytest.skip("Node is older than 20, which Segment's tracker needs")
    lock = hashlib.sha256((CLIENTS / "package-lock.json").read_bytes()).hexdigest()[:12]
    folder = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "clickstream" / f"trackers-{lock}"
    shutil.copytree(CLIENTS, folder, dirs_exist_ok=True)
    if not (folder / "node_modules" / ".complete").exists():
        _run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=folder)
        (folder / "node_modules" / ".complete").touch()
    _run(["npm", "run", "--silent", "bundle", "--", "--outdir=site"], cwd=folder)
    shutil.copy(folder / "browser" / "lamps.html", folder / "site")
    return folder


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
    """A topic, a collector's port and a spool of its own; the shop's pages are allowed, no others."""
    corner = own_topics(cluster_settings)
    collector = {
        "port": ports["collector"]["port"],
        "write_keys": {"shop": WriteKey(secret=KEY)},
        "allowed_origins": [f"http://127.0.0.1:{ports['webapp']['port']}"],
        "max_body_bytes": 100_000,
    }
    return corner.model_copy(
        update={"home": tmp_path_factory.mktemp("trackers"), "collector": corner.collector.model_copy(update=collector)}
    )


@pytest.fixture(scope="module")
def collector(own: Settings) -> Iterator[str]:
    """The address of a collector that runs as the product starts it."""
    command = [sys.executable, "-c", "from infra.cli import main; main()", "collector"]
    root = Path(__file__).parents[2]
    process = subprocess.Popen(command, cwd=root, env=os.environ | own.to_env(), stderr=subprocess.PIPE, text=True)
    try:
        eventually(lambda: _healthy(own.collector.address, process))
        yield own.collector.address
    finally:
        process.terminate()
        _, errors = process.communicate(timeout=30)
    assert "Traceback" not in errors, errors


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.mark.parametrize("client", ["segment", "rudder", "posthog", "snowplow", "snowplow_get"])
def test_a_python_tracker(client: str, collector: str, own: Settings) -> None:
    sent = _driven([sys.executable, str(CLIENTS / "python_clients.py"), client, collector, KEY])
    assert len(sent) >= 9
    got = _meant(own, sent)
    for step, events in got.items():
        _is_the_storys(step, events, url=STORY["url"])
    assert not any(event["device"]["is_bot"] for events in got.values() for event in events)


@pytest.mark.parametrize("client", ["segment", "rudder", "posthog", "snowplow"])
def test_what_a_tracker_sends_again_is_the_same_events(client: str, collector: str, own: Settings) -> None:
    """The answer to its first request is lost on the way, as if the collector couldn't tell: 503."""
    with _forgetful(collector) as proxy:
        sent = _driven([sys.executable, str(CLIENTS / "python_clients.py"), client, proxy.address, KEY])
    assert proxy.lost == 1 < proxy.answered
    steps = {one["id"] for one in sent}
    seen = [one.value for one in tail(own, own.kafka.topic, from_beginning=True, follow=False)]
    mine = [(event["message_id"], event["event_id"]) for event in seen if event["message_id"] in steps]
    assert {message for message, _ in mine} == steps
    doubled = {event: count for event, count in Counter(event for _, event in mine).items() if count > 1}
    assert doubled and set(doubled.values()) == {2}, "those of the first request came twice, under their ids"


@pytest.mark.parametrize("driver", ["segment_node", "rudder_node", "snowplow_node", "snowplow_node get"])
def test_a_node_tracker(driver: str, npm: Path, collector: str, own: Settings) -> None:
    name, *how = driver.split()
    sent = _driven(["node", str(npm / f"{name}.mjs"), collector, KEY, *how])
    assert len(sent) >= 11
    for step, events in _meant(own, sent).items():
        _is_the_storys(step, events, url=STORY["url"])


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
    for step, events in _meant(own, sent).items():
        _is_the_storys(step, events, url=url, in_browser=True)


def test_beacons_of_a_page_that_is_left(browser: Browser, site: str, collector: str, own: Settings) -> None:
    url = f"{site}/lamps.html?client=beacon&{urlencode({'collector': collector, 'key': KEY})}"

    def leave(page: Any) -> None:
        page.wait_for_function("window.finished")
        page.goto(f"{site}/lamps.html")
        page.evaluate("window.sent = JSON.parse(sessionStorage.getItem('sent'))")

    sent = _browsed(browser, url, leave)
    assert {one["step"] for one in sent} == {"text", "line", "line2", "multipart", "form", "json"}
    got = _events(own, sent)
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


def test_an_oversized_snowplow_request_is_taken_as_far_as_it_goes(collector: str, own: Settings) -> None:
    prefix = f"big-{os.getpid()}"
    data = [{"e": "pv", "aid": KEY, "eid": f"{prefix}-{n}", "url": "x" * 1000} for n in range(1000)]
    answer = requests.post(f"{collector}/com.snowplowanalytics.snowplow/tp2", json={"data": data}, timeout=30)
    assert (answer.status_code, answer.text) == (200, "ok")
    ids = [seen.value["message_id"] for seen in tail(own, own.kafka.topic, from_beginning=True, follow=False)]
    taken = [one for one in ids if one.startswith(prefix)]
    assert 80 < len(taken) < 100 == own.collector.max_body_bytes // 1000
    assert any("is larger than" in reject["reason"] for reject in _rejected(own))


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
    [event] = _events(own, sent)["pixel"]
    assert (event["event_type"], event["item_id"], event["page"]["url"]) == ("impression", "lamp-1", f"{site}/")


class Proxy:
    """Hands each POST to the collector; of the first it forgets the answer and says 503."""

    def __init__(self, collector: str) -> None:
        proxy = self
        self.answered = self.lost = 0

        class Handler(Site):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                headers = {name: value for name, value in self.headers.items() if name != "Host"}
                answer = requests.post(collector + self.path, data=body, headers=headers, timeout=30)
                first = not proxy.answered
                proxy.answered += 1
                proxy.lost += first and answer.ok
                self.send_response(503 if first else answer.status_code)
                self.send_header("Retry-After", "1")
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}"


@contextmanager
def _forgetful(collector: str) -> Iterator[Proxy]:
    proxy = Proxy(collector)
    threading.Thread(target=proxy.server.serve_forever, daemon=True).start()
    yield proxy
    proxy.server.shutdown()
    proxy.server.server_close()


def _run(command: list[str], **where: Any) -> str:
    """Output of a command that may speak to loopback alone; npm needs its registry."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, **where)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _driven(command: list[str]) -> Sent:
    """What a driver says that it sent; a way out of this machine would fail it."""
    nowhere = {"HTTP_PROXY": "http://127.0.0.1:9", "HTTPS_PROXY": "http://127.0.0.1:9", "NO_PROXY": "127.0.0.1"}
    lower = {name.lower(): value for name, value in nowhere.items()}
    sent: Sent = json.loads(_run(command, env=os.environ | nowhere | lower).splitlines()[-1])
    return sent


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


def _events(settings: Settings, sent: Sent) -> dict[str, list[Event]]:
    """Step -> its events in Kafka, by rising position. Waits until each message is there; fails at a double one."""
    steps = {one["id"]: one["step"] for one in sent}
    assert len(steps) == len(sent) == len(set(steps.values())), sent
    seen: dict[str, list[Event]] = {}

    def all_there() -> bool:
        seen.clear()
        for one in tail(settings, settings.kafka.topic, from_beginning=True, follow=False):
            if step := steps.get(one.value["message_id"]):
                seen.setdefault(step, []).append(one.value)
        return seen.keys() == set(steps.values())

    eventually(all_there, 30)
    for events in seen.values():
        assert len({event["event_id"] for event in events}) == len(events)
        events.sort(key=lambda event: (event["position"] or 0, event["item_id"] or ""))
    return seen


def _meant(settings: Settings, sent: Sent) -> dict[str, list[Event]]:
    """The same, with as many events as each step means, all of the fields that it means."""
    got = _events(settings, sent)
    for step, events in got.items():
        for event, meant in zip(events, MEANT[step], strict=True):
            assert {name: event[name] for name in meant} == meant, step
    assert [one for one in _rejected(settings) if "is larger than" not in one["reason"]] == []
    return got


def _rejected(settings: Settings) -> list[Event]:
    return [one.value for one in tail(settings, settings.kafka.rejected_topic, from_beginning=True, follow=False)]


def _is_the_storys(step: str, events: list[Event], *, url: str, in_browser: bool = False) -> None:
    """Who, where, when, and the properties."""
    now = time.time() * 1000
    properties = {name: json.loads(value) for name, value in events[0]["properties"].items()}
    for name, value in PROPERTIES.get(step, {}).items():
        if (step, name) in (("group", "groupId"),) and name not in properties:
            continue
        assert properties[name] == value, (step, name)
    for event in events:
        assert event["write_key"] == "shop"
        assert "odd_clock" not in event["flags"] and abs(now - event["occurred_at"]) < 120_000
        assert event["user_id"] == STORY["userId"] or (step == "page" and in_browser)
        assert KEY not in json.dumps([event["properties"], event["source"]]).replace(json.dumps(url)[1:-1], "")
    if step == "page":
        assert events[0]["page"]["url"] == url and events[0]["page"]["title"] == "Lamps"
        assert events[0]["campaign"]["source"] == "letter"
        assert events[0]["device"]["browser"] == ("HeadlessChrome" if in_browser else events[0]["device"]["browser"])
        assert in_browser or events[0]["page"]["referrer"] == STORY["referrer"]
    if step in ("click", "order", "custom"):
        assert all(event["anonymous_id"] for event in events)


def _healthy(address: str, process: subprocess.Popen[str]) -> bool:
    assert process.poll() is None, process.communicate()[1]
    try:
        return requests.get(f"{address}/health", timeout=1).ok
    except requests.ConnectionError:
        return False
