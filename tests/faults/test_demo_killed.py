"""The main job, killed with kill -9 in all its processes at some moments: run again, it continues and loses nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import psutil
import pytest

from infra import topics
from infra.airflow.client import Orchestrator
from infra.demo import HOURLY, TRAIN
from infra.errors import ClickstreamError
from infra.services.cluster import Cluster
from infra.services.supervision import orphans
from infra.settings import Settings
from storage import exports
from storage.batches import cuts, ledger
from storage.hdfs import Hdfs
from storage.layout import Layout
from tests.support.ports import free_ports
from tests.support.waiting import eventually

pytestmark = pytest.mark.cluster

COMMAND = Path(sys.executable).with_name("clickstream")


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Settings]:
    ports = free_ports()
    # As in the demo: the end of an hour must not begin a run of its own.
    airflow = ports["airflow"] | {"schedule": ""}
    settings = Settings(home=tmp_path / "home", **ports | {"airflow": airflow})  # type: ignore[arg-type]
    yield settings
    Cluster(settings).down()


def events_arrive(settings: Settings) -> bool:
    """Some of the events are in Kafka, and some are not."""
    return sum(topics.end_offsets(settings, settings.kafka.topic).values()) > 0


def at_work(job: str) -> Callable[[Settings], bool]:
    """A driver runs the job."""
    return lambda settings: any((settings.home / "run" / "jobs").glob(f"{job}-*.json"))


MOMENTS = [("replay", events_arrive), ("recommend_items", at_work("recommend_items"))]


def test_a_demo_that_was_killed_twice_goes_on_and_balances(own: Settings) -> None:
    """The second one continues what the first left; what the second left is ended by Airflow, once it is up again."""
    began = time.monotonic()
    for name, moment in MOMENTS:
        running = clickstream(own, "demo", "--exit")
        eventually(partial(under_way, own, moment, running), 900)
        kill_9_everything(own, running)
        print(f"\nkilled at {name} after {time.monotonic() - began:.0f} s")

    assert clickstream(own, "up").wait(300) == 0, said(own)
    airflow = Orchestrator(own)
    eventually(lambda: all(ended(airflow, dag) for dag in (HOURLY, TRAIN)), 600)
    assert [run["state"] for dag in (HOURLY, TRAIN) for run in airflow.runs(dag)] == ["success"] * 2
    fs, layout = Hdfs(own), Layout(own.hdfs.root, own.kafka.topic)
    [cut] = cuts.all_cuts(fs, layout)
    assert exports.read_current(fs, own.hdfs.root) == f"als-{cut.name}"
    gates = ledger.load(fs, layout, cut)
    assert gates.landed_complete and gates.published_balanced
    assert gates.total("landed") == sum(topics.end_offsets(own, own.kafka.topic).values())
    # Each accepted line once; what both runs sent is a duplicate.
    replay = clickstream(own, "replay", "--json")
    assert replay.wait(120) == 0, said(own)
    assert gates.total("curated") == json.loads(said(own).splitlines()[-1])["accepted"]


def ended(airflow: Orchestrator, dag: str) -> bool:
    return {run["state"] for run in airflow.runs(dag)} <= {"success", "failed"}


def clickstream(settings: Settings, *command: str) -> subprocess.Popen[bytes]:
    settings.home.mkdir(exist_ok=True)
    environment = {**os.environ, **settings.to_env()}
    with (settings.home / "demo.log").open("ab") as log:
        return subprocess.Popen([COMMAND, *command], env=environment, stdout=log, stderr=log)


def said(settings: Settings) -> str:
    return (settings.home / "demo.log").read_text()[-3000:]


def under_way(settings: Settings, moment: Callable[[Settings], bool], running: subprocess.Popen[bytes]) -> bool:
    """Whether it is that moment; what is not up yet is not there yet."""
    assert running.poll() is None
    try:
        return moment(settings)
    except (ClickstreamError, psutil.Error):
        return False


def kill_9_everything(settings: Settings, running: subprocess.Popen[bytes]) -> None:
    """The command, the supervisor, the servers, and the Spark jobs below them."""
    supervisor = psutil.Process(int((settings.home / "run" / "supervisord.pid").read_text()))
    running.kill()
    supervisor.kill()
    running.wait()
    left = orphans(settings)
    assert len(left) >= 8
    for process in left:
        process.kill()
    psutil.wait_procs(left, timeout=10)
