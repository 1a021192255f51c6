"""The bench's own parts: what it sends, what it counts, what it compares."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from ingest.bench.collector import Round, _compare
from ingest.bench.load import Plan, Seen, requests, run
from ingest.event.context import Context
from ingest.protocols.native import parse


@contextmanager
def server(answers: list[bytes]) -> Iterator[tuple[int, list[bytes]]]:
    """A server of one connection that gives these answers in turn, each once a whole request has come."""
    got: list[bytes] = []

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            for answer in answers:
                data = b""
                while b"\r\n\r\n" not in data or len(data.partition(b"\r\n\r\n")[2]) < _length(data):
                    part = connection.recv(65536)
                    if not part:
                        return
                    data += part
                got.append(data)
                for half in (answer[:20], answer[20:]):
                    connection.sendall(half)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1], got
        thread.join(5)


def _length(data: bytes) -> int:
    return int(data.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])


OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"
BUSY = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"


def test_every_request_is_answered_and_failures_are_counted() -> None:
    with server([OK, BUSY] + [OK] * 100_000) as (port, got):
        seen = run(Plan("127.0.0.1", port, "key", connections=1, seconds=0.6))
    assert seen.requests == len(got) > 2
    assert seen.failed == 1
    assert 0 < seen.p50_ms <= seen.p99_ms


def test_a_server_that_hangs_up_is_an_error_not_a_number() -> None:
    with server([OK]) as (port, _), pytest.raises(ConnectionError):
        run(Plan("127.0.0.1", port, "key", connections=1, seconds=5))


@pytest.mark.parametrize("batch", [0, 100])
def test_what_is_sent_are_events_that_the_collector_takes(batch: int) -> None:
    wire = requests(Plan("127.0.0.1", 1, "key", connections=1, seconds=1, batch=batch))
    assert len(set(wire)) == len(wire) > 100
    head, _, body = wire[0].partition(b"\r\n\r\n")
    assert b"X-Write-Key: key" in head
    assert _length(wire[0]) == len(body)
    events = json.loads(body)["batch"] if batch else [json.loads(body)]
    assert len(events) == max(batch, 1)
    for event in events:
        assert parse(event, Context("shop", event["occurred_at"])).flags == ()


def test_ratios_are_medians_of_those_within_a_round() -> None:
    def rounds(*rates: int, p99: float) -> list[Round]:
        return [Round(Seen(rate, 0, 1.0, 1.0, p99), rate, 1.0) for rate in rates]

    facts = _compare(rounds(100, 200, 50, p99=10.0), rounds(90, 150, 10, p99=12.0))
    assert (facts["ratio"], facts["p99_ratio"]) == (0.75, 1.2)
    assert facts["collector"]["events_per_second"] == 90
