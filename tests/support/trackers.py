"""The story that every tracker tells, what each step of it means here, and how it is driven and found in Kafka."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from infra.settings import Settings
from infra.settings.collector import WriteKey
from ingest.tools.tail import tail
from tests.support.corners import own_topics
from tests.support.waiting import eventually

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


def npm_folder() -> Path:
    """A folder with the npm trackers as locked, the drivers, and site/, their bundles for browsers.

    Outside the tree, so that it lasts; made anew when a version changes. Needs Node of 20 or later.
    """
    if not shutil.which("npm") or not shutil.which("node"):
        pytest.skip("no Node: node and npm are not on the PATH")
    if int(run(["node", "--version"]).removeprefix("v").partition(".")[0]) < 20:
        pytest.skip("Node is older than 20, which Segment's tracker needs")
    lock = hashlib.sha256((CLIENTS / "package-lock.json").read_bytes()).hexdigest()[:12]
    folder = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "clickstream" / f"trackers-{lock}"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)  # of tests that run side by side one makes it
        shutil.copytree(CLIENTS, folder, dirs_exist_ok=True)
        if not (folder / "node_modules" / ".complete").exists():
            run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=folder)
            (folder / "node_modules" / ".complete").touch()
        run(["npm", "run", "--silent", "bundle", "--", "--outdir=site"], cwd=folder)
        shutil.copy(folder / "browser" / "lamps.html", folder / "site")
    return folder


def shop(cluster: Settings, ports: dict[str, dict[str, int]], home: Path) -> Settings:
    """A topic, a collector's port and a spool of its own; the shop's pages are allowed, no others."""
    corner = own_topics(cluster)
    collector = {
        "port": ports["collector"]["port"],
        "write_keys": {"shop": WriteKey(secret=KEY)},
        "allowed_origins": [f"http://127.0.0.1:{ports['webapp']['port']}"],
        "max_body_bytes": 100_000,
    }
    return corner.model_copy(update={"home": home, "collector": corner.collector.model_copy(update=collector)})


def run(command: list[str], **where: Any) -> str:
    """Output of a command that may speak to loopback alone; npm needs its registry."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, **where)
    assert done.returncode == 0, done.stdout + done.stderr
    return str(done.stdout)


def driven(command: list[str]) -> Sent:
    """What a driver says that it sent; a way out of this machine would fail it."""
    nowhere = {"HTTP_PROXY": "http://127.0.0.1:9", "HTTPS_PROXY": "http://127.0.0.1:9", "NO_PROXY": "127.0.0.1"}
    lower = {name.lower(): value for name, value in nowhere.items()}
    sent: Sent = json.loads(run(command, env=os.environ | nowhere | lower).splitlines()[-1])
    return sent


def events_of(settings: Settings, sent: Sent) -> dict[str, list[Event]]:
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


def meant(settings: Settings, sent: Sent) -> dict[str, list[Event]]:
    """The same, with as many events as each step means, all of the fields that it means."""
    got = events_of(settings, sent)
    for step, events in got.items():
        for event, meant in zip(events, MEANT[step], strict=True):
            assert {name: event[name] for name in meant} == meant, step
    assert [one for one in rejected(settings) if "is larger than" not in one["reason"]] == []
    return got


def rejected(settings: Settings) -> list[Event]:
    return [one.value for one in tail(settings, settings.kafka.rejected_topic, from_beginning=True, follow=False)]


def is_the_storys(step: str, events: list[Event], *, url: str, in_browser: bool = False) -> None:
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
