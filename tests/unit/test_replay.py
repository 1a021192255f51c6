"""Replaying files over real HTTP into the real app, whose publisher is in memory."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask, Response, request
from werkzeug.serving import make_server

from infra.errors import ConfigurationError, ServiceError
from infra.settings import Settings
from infra.settings.collector import Collector, WriteKey
from ingest.errors import SourceError
from ingest.event import codec
from ingest.http.app import create_app
from ingest.tools.replay import CollectorClient, LineCounts, batches, bundled_log, guess_format, open_lines, replay
from tests.fakes import FakePublisher

LINE = b'203.0.113.9 - - [17/May/2015:10:05:03 +0000] "GET /a HTTP/1.1" 200 1 "-" "Firefox"'


class Served:
    """A collector at a port of this machine; `refusals` requests get 503 first."""

    def __init__(self, home: Path) -> None:
        self.publisher = FakePublisher()
        self.refusals = 0
        self.requests = 0
        app = create_app(Settings(home=home), self.publisher)
        app.before_request(self._refuse)
        self._server = make_server("127.0.0.1", 0, _quiet(app), threaded=True)
        self.settings = Settings(home=home, collector=Collector(port=self._server.server_port))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def _refuse(self) -> Response | None:
        if request.path == "/healthz":
            return None
        self.requests += 1
        if self.refusals:
            self.refusals -= 1
            return Response("busy", 503, {"Retry-After": "0"})
        return None

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def _quiet(app: Flask) -> Flask:
    import logging

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    return app


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    served = Served(tmp_path)
    yield served
    served.close()


def send(served: Served, lines: list[bytes], batch_size: int = 500) -> LineCounts:
    with CollectorClient(served.settings) as client:
        return replay(client, lines, "access.log", "access-log", batch_size=batch_size)


def message_ids(served: Served) -> list[str]:
    return [codec.decode(value).message_id for value in served.publisher.on("clicks")]


def test_every_line_of_the_bundled_log_is_accounted_for(served: Served) -> None:
    with CollectorClient(served.settings) as client, open_lines(bundled_log()) as (lines, _):
        facts = replay(client, lines, bundled_log().name, "access-log").facts()
    assert facts["lines"] == 10_000
    assert (facts["accepted"], facts["rejected"], facts["filtered"]) == (2994, 1, 7005)
    assert sum(facts["filtered_by_reason"].values()) == 7005
    assert served.requests == 20


def test_lines_keep_their_numbers_across_batches(served: Served) -> None:
    outcome = send(served, [LINE, b"", LINE, LINE, LINE], batch_size=2)
    assert (outcome.lines, outcome.accepted, outcome.filtered) == (5, 4, {"blank": 1})
    assert [id_.split(":")[1] for id_ in message_ids(served)] == ["1", "3", "4", "5"]


def test_another_batch_size_gives_the_same_ids(served: Served) -> None:
    send(served, [LINE] * 10, batch_size=3)
    send(served, [LINE] * 10, batch_size=7)
    ids = message_ids(served)
    assert ids[:10] == ids[10:]
    assert len(set(ids)) == 10


def test_a_busy_collector_is_asked_again(served: Served) -> None:
    served.refusals = 2
    assert send(served, [LINE]).accepted == 1
    assert served.requests == 3


def test_json_lines_are_sent_as_they_are(served: Served) -> None:
    event = {"event_type": "search", "occurred_at": "2026-01-01T00:00:00Z", "anonymous_id": "v"}
    with CollectorClient(served.settings) as client:
        outcome = replay(client, [json.dumps(event).encode(), b"{"], "mine.jsonl", "jsonl")
    assert (outcome.accepted, outcome.rejected) == (1, {"line: is not JSON": 1})


def test_a_batch_too_large_goes_in_halves_and_a_line_too_large_is_rejected(served: Served) -> None:
    huge = b"{" + b"\xc3\x28" * 5_000_000
    outcome = send(served, [LINE, huge, LINE])
    assert (outcome.lines, outcome.accepted) == (3, 2)
    assert outcome.rejected == {"line: is larger than the collector takes": 1}


def test_no_collector_is_one_line_that_names_the_setting(tmp_path: Path) -> None:
    with (
        CollectorClient(Settings(home=tmp_path, collector=Collector(url="http://127.0.0.1:9"))) as client,
        pytest.raises(ServiceError, match="CLICKSTREAM_COLLECTOR__URL"),
    ):
        replay(client, [LINE], "f", "access-log")


def test_a_wrong_key_names_the_setting(served: Served) -> None:
    wrong = served.settings.collector.model_copy(update={"write_keys": {"x": WriteKey(secret="wrong")}})
    with (
        CollectorClient(served.settings.model_copy(update={"collector": wrong})) as client,
        pytest.raises(ServiceError, match="CLICKSTREAM_COLLECTOR__WRITE_KEYS"),
    ):
        replay(client, [LINE], "f", "access-log")


def test_without_any_key_there_is_nothing_to_send_with(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="WRITE_KEYS"):
        CollectorClient(Settings(home=tmp_path, collector=Collector(write_keys={})))


def test_batches_are_bounded_in_lines_and_bytes() -> None:
    assert [len(batch) for batch in batches([b"x"] * 5, 2)] == [2, 2, 1]
    assert [len(batch) for batch in batches([b"x" * 600_000] * 3, 500)] == [1, 1, 1]
    assert list(batches([], 2)) == []


@pytest.mark.parametrize(
    ("name", "content", "format_"),
    [
        ("a.jsonl", b"", "jsonl"),
        ("a.ndjson.gz", gzip.compress(b"x", mtime=0), "jsonl"),
        ("data", b'\n {"event_type": 1}\n', "jsonl"),
        ("access.log", LINE, "access-log"),
        ("access.log.1", gzip.compress(LINE, mtime=0), "access-log"),
    ],
)
def test_a_format_is_guessed_by_name_then_by_content(tmp_path: Path, name: str, content: bytes, format_: str) -> None:
    (tmp_path / name).write_bytes(content)
    assert guess_format(tmp_path / name) == format_


@pytest.mark.parametrize("content", [b"a\nb\nc", b"a\nb\nc\n"])
def test_plain_and_gzipped_files_have_the_same_lines(tmp_path: Path, content: bytes) -> None:
    for name, raw in (("plain", content), ("zipped.gz", gzip.compress(content))):
        (tmp_path / name).write_bytes(raw)
        with open_lines(tmp_path / name) as (lines, _):
            assert list(lines) == [b"a", b"b", b"c"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("fake.gz", b"no gzip"),
        ("cut.gz", gzip.compress(LINE * 100, mtime=0)[:-10]),
        ("bad.gz", gzip.compress(LINE, mtime=0)[:10] + b"junk"),
    ],
)
def test_a_damaged_file_is_an_error_that_names_it(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SourceError, match=name), open_lines(tmp_path / name) as (lines, _):
        list(lines)


def test_a_missing_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="nothing-here"), open_lines(tmp_path / "nothing-here"):
        pass
