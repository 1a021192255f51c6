"""Closed-loop load on one URL, from a process of its own: a connection sends its next request when it has its answer.

A plain selector loop takes some 15 µs per request, so that the load generator takes little of the machine. Run as
`python -m ingest.bench.load`, with the plan as JSON on stdin; prints its measurements as JSON.
"""

from __future__ import annotations

import json
import random
import selectors
import socket
import sys
import time
import uuid
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import msgspec

_AGENTS = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{0}.0.0.0 Safari/537.36",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.{0} "
    "Safari/605.1.15",
    "Mozilla/5.0 (Linux; Android 14; Pixel 8) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{0}.0.0.0 Mobile "
    "Safari/537.36",
)
_BODIES = 200  # different ones, sent in turn


class Plan(msgspec.Struct):
    """The load: `batch` events per request (0: a bare event), by `connections` at once for `seconds`."""

    host: str
    port: int
    key: str
    connections: int
    seconds: float
    batch: int = 0


class Seen(msgspec.Struct):
    """The measurements. Latencies are in milliseconds, from the first byte sent to the last received."""

    requests: int
    failed: int
    seconds: float
    p50_ms: float
    p99_ms: float


def event(rng: random.Random, now_ms: int) -> dict[str, Any]:
    """An event as a shop's page sends it; some 490 bytes of JSON."""
    item = min(int(rng.paretovariate(1)), 2000)  # few of them get most of the views
    query = f"?utm_source=newsletter&utm_campaign=week-{rng.randrange(52)}" if rng.random() < 0.2 else ""
    return {
        "message_id": str(uuid.UUID(int=rng.getrandbits(128), version=4)),
        "event_type": rng.choice(["page_view", "impression", "impression", "click"]),
        "occurred_at": now_ms - rng.randrange(10_000),
        "sequence": rng.randrange(50),
        "anonymous_id": str(uuid.UUID(int=rng.getrandbits(128), version=4)),
        "page": {
            "url": f"https://shop.example/item/{item}{query}",
            "path": f"/item/{item}",
            "referrer": "https://search.example/" if rng.random() < 0.5 else None,
            "title": f"Item number {item}",
        },
        "item_id": f"item-{item:04d}",
        "list_id": "home",
        "position": rng.randrange(20),
        "impression_id": str(uuid.UUID(int=rng.getrandbits(128), version=4)),
        "experiments": {"carousel": rng.choice("ab")},
        "properties": {"color": rng.choice(["red", "blue"]), "price": round(rng.uniform(1, 99), 2)},
    }


def requests(plan: Plan, seed: int = 7) -> list[bytes]:
    """Whole HTTP requests as bytes, headers and bodies."""
    rng, now_ms = random.Random(seed), time.time_ns() // 1_000_000
    found = []
    for _ in range(_BODIES):
        document: Any = event(rng, now_ms)
        if plan.batch:
            document = {"batch": [event(rng, now_ms) for _ in range(plan.batch)], "sent_at": now_ms}
        body = json.dumps(document, separators=(",", ":")).encode()
        agent = rng.choice(_AGENTS).format(rng.randrange(100, 140))
        head = (
            f"POST /collect HTTP/1.1\r\nHost: {plan.host}:{plan.port}\r\nUser-Agent: {agent}\r\n"
            f"X-Write-Key: {plan.key}\r\nAccept: */*\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        found.append(head.encode() + body)
    return found


class _Connection:
    """One keep-alive connection; `data` is what has come of the answer so far."""

    def __init__(self, plan: Plan) -> None:
        self.socket = socket.create_connection((plan.host, plan.port), timeout=30)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.data, self.sent_at = b"", 0.0

    def send(self, request: bytes) -> None:
        self.data, self.sent_at = b"", time.perf_counter()
        self.socket.sendall(request)

    def receive(self) -> int | None:
        """The status once the answer is complete. Raises ConnectionError when the server hangs up."""
        got = self.socket.recv(65536)
        if not got:
            raise ConnectionResetError("the server closed the connection")
        self.data += got
        head, end, body = self.data.partition(b"\r\n\r\n")
        if not end:
            return None
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        return int(head[9:12]) if len(body) >= length else None


def run(plan: Plan) -> Seen:
    """Sends until the time is over, then waits for outstanding responses, so that every event is accounted for."""
    wire = requests(plan)
    latencies: list[float] = []
    failed = sent = 0
    with ExitStack() as stack:
        selector = stack.enter_context(selectors.DefaultSelector())
        began = time.perf_counter()
        for _ in range(plan.connections):
            connection = _Connection(plan)
            stack.enter_context(connection.socket)
            selector.register(connection.socket, selectors.EVENT_READ, connection)
            connection.send(wire[sent % len(wire)])
            sent += 1
        while selector.get_map():
            for key, _ in selector.select(30) or _hung():
                connection = key.data
                status = connection.receive()
                if status is None:
                    continue
                now = time.perf_counter()
                latencies.append(now - connection.sent_at)
                failed += status != 200
                if now - began < plan.seconds:
                    connection.send(wire[sent % len(wire)])
                    sent += 1
                else:
                    selector.unregister(connection.socket)
        took = time.perf_counter() - began
    return Seen(sent, failed, took, _percentile(latencies, 0.5), _percentile(latencies, 0.99))


def _hung() -> list[Any]:
    raise TimeoutError("no answer for 30 s")


def _percentile(latencies: Sequence[float], share: float) -> float:
    ordered = sorted(latencies)
    return round(ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1000, 3)


def main() -> None:
    plan = msgspec.json.decode(sys.stdin.buffer.read(), type=Plan)
    sys.stdout.buffer.write(msgspec.json.encode(run(plan)))


if __name__ == "__main__":
    main()
