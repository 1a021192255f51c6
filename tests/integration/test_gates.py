"""What DAGs ask of the batches, on a real Kafka and HDFS."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Event, Thread
from typing import Any

import pytest

from infra.errors import ServiceError
from infra.settings import Settings
from storage import exports
from storage.batches import cuts, ledger
from storage.batches.gates import Gates
from storage.errors import BatchError, GateClosed
from storage.formats.avro.writer import Container
from storage.formats.envelope import plain_envelope
from storage.formats.file_info import FileInfo
from storage.hdfs import Hdfs
from storage.layout import Layout, quality_report
from tests.support.corners import own_topics, produce
from tests.support.events import event

HOUR = datetime(2026, 5, 1, 5, tzinfo=UTC)


def awaited(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Its result, from a loop in another thread: a browser that tests share keeps the loop of this one."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, coroutine).result()


def land(fs: Hdfs, layout: Layout, first: int, last: int) -> None:
    info = FileInfo(layout.topic, 0, first, last, last - first + 1)
    path = f"{layout.raw(0)}/{layout.file(0, first, last, 'avro')}"
    fs.create(path, Container(plain_envelope(), 0, "null").file(info), create_parents=True)


def test_a_late_run_ends_its_batch_where_its_hour_ended(cluster_settings: Settings) -> None:
    settings = own_topics(cluster_settings)
    produce(settings, 0, [event("a"), event("b")])
    time.sleep(0.01)  # the broker's clock tells milliseconds
    ended = datetime.now(UTC)
    time.sleep(0.01)
    produce(settings, 0, [event("c")])
    produce(settings, 1, [event("d")])
    gates = Gates(settings)
    first, second = gates.take("2026-05-01T05", ended), gates.take("now")
    assert (first.ends, second.ends) == ({0: 2, 1: 0}, {0: 3, 1: 1})
    assert datetime.fromisoformat(first.taken_at) == ended.replace(microsecond=ended.microsecond // 1000 * 1000)
    late = gates.take("2026-05-01T04", ended - timedelta(hours=1))  # what two cuts hold already stays there
    assert (late.number, late.offsets, late.taken_at) == (3, 0, second.taken_at)
    assert gates.take("2026-05-01T05", datetime.now(UTC)) == first


def test_a_past_cut_loses_no_partition_that_an_earlier_one_had(fs: Hdfs, layout: Layout) -> None:
    cuts.take(fs, layout, "one", lambda: {0: 5, 1: 7})
    two = cuts.take(fs, layout, "two", lambda: {0: 9, 1: 3}, HOUR)
    assert (two.starts, two.ends) == ({0: 5, 1: 7}, {0: 9, 1: 7})


def test_earlier_batches_that_nobody_curated_go_first(corner: Settings, fs: Hdfs, layout: Layout) -> None:
    gates = Gates(corner)
    for end, name in enumerate(("one", "two", "three", "four"), 1):
        land(fs, layout, end - 1, end - 1)
        cuts.take(fs, layout, name, lambda end=end: {0: end})
    assert gates.to_curate("three") == ["one", "two", "three"]
    with pytest.raises(BatchError, match="no curated batch yet"):
        gates.newest_curated()
    for name in ("one", "two"):
        assert not gates.current_ledger(name).missing
        ledger.record_publish(fs, layout, cuts.get(fs, layout, name), {0: (1, 0, 0)})
    assert gates.to_curate("four") == ["three", "four"]
    ledger.record_sessions(fs, layout, "one")
    assert gates.to_curate("four") == ["two", "three", "four"]  # whose sessions are missing, or which was refused
    ledger.record_sessions(fs, layout, "two")
    assert gates.to_curate("four") == ["three", "four"]
    ledger.record_publish(fs, layout, cuts.get(fs, layout, "three"), {0: (0, 0, 0)})
    assert gates.to_curate("four") == ["three", "four"]
    assert gates.to_curate("two") == ["two"]  # a rerun
    assert gates.newest_curated() == "two"


def test_batches_that_have_landed_are_found_by_the_time_of_their_cuts(
    corner: Settings, fs: Hdfs, layout: Layout
) -> None:
    for hour in range(5):
        cuts.take(fs, layout, f"h{hour}", lambda hour=hour: {0: hour}, HOUR + timedelta(hours=hour))
    land(fs, layout, 0, 1)
    gates = Gates(corner)
    assert gates.between(HOUR, HOUR + timedelta(hours=3)) == ["h1", "h2"]
    land(fs, layout, 2, 2)
    assert gates.between(HOUR, HOUR + timedelta(hours=3)) == ["h1", "h2", "h3"]


def test_the_publish_gate_says_what_does_not_add_up(corner: Settings, fs: Hdfs, layout: Layout) -> None:
    land(fs, layout, 0, 4)
    cut, gates = cuts.take(fs, layout, "one", lambda: {0: 5}), Gates(corner)
    gates.current_ledger("one")
    ledger.record_publish(fs, layout, cut, {0: (3, 1, 0)})
    with pytest.raises(GateClosed, match=r"one: .*\(5, 3, 1, 0\)"):
        gates.check_published("one")
    ledger.record_publish(fs, layout, cut, {0: (3, 1, 1)})
    assert gates.check_published("one").published_balanced


def test_a_report_of_bad_rows_closes_the_quality_gate(corner: Settings, fs: Hdfs, layout: Layout) -> None:
    cuts.take(fs, layout, "one", lambda: {0: 0})
    gates = Gates(corner)
    gates.check_quality("one", ("events",))
    report = {"findings": [{"check": "event_id is null", "rows": 2}]}
    fs.write_atomically(quality_report(corner.hdfs.root, "events", 1), json.dumps(report).encode())
    with pytest.raises(GateClosed, match=r"one: quality: .*event_id is null"):
        gates.check_quality("one", ("events",))


def test_a_version_counts_as_shown_when_the_web_app_serves_it(corner: Settings, fs: Hdfs) -> None:
    served = iter(["als-1", "als-1", "als-2", "als-2"])

    class Health(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps({"version": next(served)}).encode())

        def log_message(self, *_: Any) -> None:
            pass

    root = corner.hdfs.root
    fs.write_atomically(exports.report(root, "als-2"), b'{"batch": "b"}')
    exports.publish_current(fs, root, "als-2")
    with HTTPServer(("127.0.0.1", 0), Health) as server:
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        webapp = corner.webapp.model_copy(update={"url": f"http://127.0.0.1:{server.server_port}"})
        gates = Gates(corner.model_copy(update={"webapp": webapp}))
        assert gates.wait_until_served(patience=10) == "als-2"
        server.shutdown()
    with pytest.raises(ServiceError, match=r"http://127.0.0.1:.*/health .* does not serve als-2 after 0 s"):
        gates.wait_until_served(patience=0)


def test_the_trigger_fires_when_the_last_offset_has_landed_and_not_before(
    corner: Settings, fs: Hdfs, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    from storage.batches.airflow_trigger import LandingTrigger

    for name, value in corner.to_env().items():
        monkeypatch.setenv(name, value)
    cuts.take(fs, layout, "one", lambda: {0: 5})
    land(fs, layout, 0, 2)

    async def fired(deadline: float) -> Any:
        return await anext(LandingTrigger("one", deadline, poll_seconds=0.1).run())

    assert awaited(fired(0)).payload == {"closed": "partition -> missing offsets {0: 2}"}

    async def landed_meanwhile() -> Any:
        waiting = asyncio.create_task(fired(time.time() + 60))
        await asyncio.sleep(0.5)
        assert not waiting.done()
        await asyncio.to_thread(land, fs, layout, 3, 4)
        return await waiting

    assert awaited(landed_meanwhile()).payload == {"closed": ""}


def test_the_trigger_names_hdfs_when_it_is_away(corner: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    from storage.batches.airflow_trigger import LandingTrigger

    away = corner.model_copy(update={"hdfs": corner.hdfs.model_copy(update={"url": "hdfs://127.0.0.1:1"})})
    for name, value in away.to_env().items():
        monkeypatch.setenv(name, value)

    async def fired() -> Any:
        return await anext(LandingTrigger("one", 0.0).run())

    assert "hdfs://127.0.0.1:1 (CLICKSTREAM_HDFS__URL) does not answer" in awaited(fired()).payload["closed"]


def test_a_namenode_that_hangs_is_not_waited_for_beyond_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    from storage.batches import airflow_trigger

    answered = Event()

    def hangs(self: Any) -> str:
        answered.wait()
        return ""

    async def fired() -> Any:
        try:
            return await anext(airflow_trigger.LandingTrigger("one", 0.0).run())
        finally:
            answered.set()  # or the loop would wait for the thread

    monkeypatch.setattr(airflow_trigger.LandingTrigger, "_closed", hangs)
    monkeypatch.setattr(airflow_trigger, "_LEAST_SECONDS", 0.2)
    assert "HDFS (CLICKSTREAM_HDFS__URL) has not answered" in awaited(fired()).payload["closed"]
