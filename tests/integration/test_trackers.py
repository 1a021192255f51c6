"""Servers' trackers, unchanged, against the running collector: each message is once in Kafka, as it was meant."""

from __future__ import annotations

import os
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests

from infra.settings import Settings
from ingest.tools.tail import tail
from tests.support.ports import free_ports
from tests.support.servers import running_collector
from tests.support.trackers import CLIENTS, KEY, STORY, driven, is_the_storys, meant, npm_folder, rejected, shop


@pytest.fixture(scope="module")
def npm() -> Path:
    return npm_folder()


@pytest.fixture(scope="module")
def ports() -> dict[str, dict[str, int]]:
    return free_ports()


@pytest.fixture(scope="module")
def own(
    cluster_settings: Settings, ports: dict[str, dict[str, int]], tmp_path_factory: pytest.TempPathFactory
) -> Settings:
    return shop(cluster_settings, ports, tmp_path_factory.mktemp("trackers"))


@pytest.fixture(scope="module")
def collector(own: Settings) -> Iterator[str]:
    with running_collector(own) as running:
        yield running.address


@pytest.mark.parametrize("client", ["segment", "rudder", "posthog", "snowplow", "snowplow_get"])
def test_a_python_tracker(client: str, collector: str, own: Settings) -> None:
    sent = driven([sys.executable, str(CLIENTS / "python_clients.py"), client, collector, KEY])
    assert len(sent) >= 9
    got = meant(own, sent)
    for step, events in got.items():
        is_the_storys(step, events, url=STORY["url"])
    assert not any(event["device"]["is_bot"] for events in got.values() for event in events)


@pytest.mark.parametrize("client", ["segment", "rudder", "posthog", "snowplow"])
def test_what_a_tracker_sends_again_is_the_same_events(client: str, collector: str, own: Settings) -> None:
    """The answer to its first request is lost on the way, as if the collector couldn't tell: 503."""
    with _forgetful(collector) as proxy:
        sent = driven([sys.executable, str(CLIENTS / "python_clients.py"), client, proxy.address, KEY])
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
    sent = driven(["node", str(npm / f"{name}.mjs"), collector, KEY, *how])
    assert len(sent) >= 11
    for step, events in meant(own, sent).items():
        is_the_storys(step, events, url=STORY["url"])


def test_an_oversized_snowplow_request_is_taken_as_far_as_it_goes(collector: str, own: Settings) -> None:
    prefix = f"big-{os.getpid()}"
    data = [{"e": "pv", "aid": KEY, "eid": f"{prefix}-{n}", "url": "x" * 1000} for n in range(1000)]
    answer = requests.post(f"{collector}/com.snowplowanalytics.snowplow/tp2", json={"data": data}, timeout=30)
    assert (answer.status_code, answer.text) == (200, "ok")
    ids = [seen.value["message_id"] for seen in tail(own, own.kafka.topic, from_beginning=True, follow=False)]
    taken = [one for one in ids if one.startswith(prefix)]
    assert 80 < len(taken) < 100 == own.collector.max_body_bytes // 1000
    assert any("is larger than" in reject["reason"] for reject in rejected(own))


class Proxy:
    """Hands each POST to the collector; of the first it forgets the answer and says 503."""

    def __init__(self, collector: str) -> None:
        proxy = self
        self.answered = self.lost = 0

        class Handler(BaseHTTPRequestHandler):
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

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}"


@contextmanager
def _forgetful(collector: str) -> Iterator[Proxy]:
    proxy = Proxy(collector)
    threading.Thread(target=proxy.server.serve_forever, daemon=True).start()
    yield proxy
    proxy.server.shutdown()
    proxy.server.server_close()
