"""Sinks that stop, share, are fenced or killed: each record is landed once, whoever owned its partition."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter

from infra.settings import Settings
from storage.sink import epochs
from tests.support.corners import produce
from tests.support.events import event
from tests.support.landing import holding, landing
from tests.support.ports import free_ports
from tests.support.servers import running_sink
from tests.support.waiting import eventually


def test_a_stopped_sink_publishes_what_is_open_and_the_next_goes_on_there(cluster_settings: Settings) -> None:
    corner = landing(cluster_settings)
    for round_ in range(3):
        produce(corner.settings, 0, [event(f"{round_}-{n}") for n in range(20)])
        with running_sink(corner.settings) as sink:
            holding(sink)
    assert corner.messages(0) == [(20 * r + n, f"{r}-{n}") for r in range(3) for n in range(20)]
    assert corner.fs.names(corner.layout.epochs(0)) == ["fenced"]


def test_two_sinks_share_the_partitions_and_give_them_over_without_a_hole_or_a_double(
    cluster_settings: Settings,
) -> None:
    corner = landing(cluster_settings, partitions=4)
    sent: Counter[int] = Counter()

    def more() -> None:
        for partition in range(4):
            produce(corner.settings, partition, [event(f"{partition}-{sent[partition] + n}") for n in range(100)])
            sent[partition] += 100

    more()
    with running_sink(corner.settings) as first:
        eventually(lambda: first.value("partitions") == 5, worker=first)
        with running_sink(corner.settings) as second:
            eventually(lambda: second.value("partitions") >= 2, worker=second)
            more()
            corner.landed(corner.cut("shared"), second)
        more()
        eventually(lambda: first.value("partitions") == 5, worker=first)
        corner.landed(corner.cut("alone"), first)
    for partition in range(4):
        assert corner.messages(partition) == [(n, f"{partition}-{n}") for n in range(300)]


def test_a_fenced_sink_forgets_and_comes_back_by_joining_anew(cluster_settings: Settings) -> None:
    corner = landing(cluster_settings)
    produce(corner.settings, 0, [event("a"), event("b")])
    with running_sink(corner.settings) as sink:
        holding(sink)
        epochs.claim_epoch(corner.fs, corner.layout, 0)  # somebody who owns it for a moment, and goes away
        corner.landed(corner.cut("one"), sink)
        assert sink.value("rejoins_total") == 1
    assert corner.messages(0) == [(0, "a"), (1, "b")]


def test_killed_again_and_again_while_it_publishes_everything_is_there_once(cluster_settings: Settings) -> None:
    own = free_ports()["sink"]
    corner = landing(cluster_settings, partitions=2, max_records=40, max_age_seconds=0.2, **own)
    settings = corner.settings
    section = {"kafka": ["port", "topic"], "hdfs": ["port", "root"]}
    sink = ["group", "metrics_port", "max_records", "max_age_seconds"]
    names = {**section, "sink": sink}
    environment = {
        f"CLICKSTREAM_{part}__{name}".upper(): str(getattr(getattr(settings, part), name))
        for part, fields in names.items()
        for name in fields
    }
    # A member killed with -9 would hold its partitions for ten seconds; the broker allows six at least.
    environment["CLICKSTREAM_KAFKA__PROPERTIES"] = json.dumps({"session.timeout.ms": "6000"})
    command = [sys.executable, "-c", "from infra.cli import main; main()", "sink"]
    sent = 0
    for kill_after in (0.05, 0.4, 0.9):  # seconds after its first file of this life
        for partition in (0, 1):
            produce(settings, partition, [event(f"{partition}-{sent + n}") for n in range(200)])
        sent += 200
        before = len(corner.files(corner.layout, 0))
        process = subprocess.Popen(command, env=os.environ | environment, stdout=subprocess.DEVNULL)
        try:
            eventually(lambda start=before: len(corner.files(corner.layout, 0)) > start)  # type: ignore[misc]
            time.sleep(kill_after)
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
    last = subprocess.Popen(command, env=os.environ | environment, stdout=subprocess.DEVNULL)
    try:
        corner.landed(corner.cut("one"))
        last.send_signal(signal.SIGTERM)
        assert last.wait(60) == 0
    finally:
        last.kill()
        last.wait()
    for partition in (0, 1):
        assert corner.messages(partition) == [(n, f"{partition}-{n}") for n in range(sent)]
        assert corner.fs.names(corner.layout.epochs(partition)) == ["fenced"]
