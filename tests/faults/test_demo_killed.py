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
from typing import Any

import psutil
import pytest

from infra import topics
from infra.demo import DAG
from infra.errors import ClickstreamError
from infra.services.cluster import Cluster
from infra.services.supervision import orphans
from infra.settings import Settings
from storage import batches, ledger
from storage.hdfs import Hdfs
from storage.layout import Layout
from tests.conftest import free_ports
from tests.waiting import eventually

pytestmark = pytest.mark.alone

COMMAND = Path(sys.executable).with_name("clickstream")


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Settings]:
    settings = Settings(home=tmp_path / "home", **free_ports())
    yield settings
    Cluster(settings).down()


def events_arrive(settings: Settings) -> bool:
    """Some of the events are in Kafka, and some are not."""
    return sum(topics.end_offsets(settings, settings.kafka.topic).values()) > 0


def at_work(job: str) -> Callable[[Settings], bool]:
    """The job's driver runs, and its JVM below spark-submit."""
    return lambda settings: any(f"{job}.py" in " ".join(process.cmdline()) for process in orphans(settings))


DEMO = ("demo", "--exit")
MOMENTS = [
    ("replay", events_arrive, DEMO),
    ("curate_events", at_work("curate_events"), DEMO),
    ("recommend_items", at_work("recommend_items"), ("up",)),  # which Airflow comes to by itself
]


def test_a_demo_that_was_killed_again_and_again_goes_on_and_balances(own: Settings) -> None:
    """Each command continues what was left by the one before, up to a later moment: what a batch costs is paid once."""
    began = time.monotonic()
    for name, moment, command in MOMENTS:
        running = clickstream(own, *command)
        eventually(partial(under_way, own, moment, running), 600)
        kill_9_everything(own, running)
        print(f"\nkilled at {name} after {time.monotonic() - began:.0f} s")

    last = clickstream(own, *DEMO, "--json", str(own.home / "facts.json"))
    assert last.wait(900) == 0, (own.home / "demo.log").read_text()[-3000:]

    facts: dict[str, Any] = json.loads((own.home / "facts.json").read_text())
    assert facts["dag_runs"] == [{"dag_id": DAG, "state": "success"}]
    cluster = Cluster(own, only=["kafka", "namenode", "datanode"])
    cluster.up()
    counted = ledgers(own)
    assert all(one.landed_complete and one.published_balanced for one in counted.values()), counted
    landed = sum(one.total("landed") for one in counted.values())
    assert landed == sum(topics.end_offsets(own, own.kafka.topic).values())
    # Each accepted line once, over all batches; what several runs sent is a duplicate in the later ones.
    assert sum(one.total("curated") for one in counted.values()) == facts["accepted"]


def clickstream(settings: Settings, *command: str) -> subprocess.Popen[bytes]:
    settings.home.mkdir(exist_ok=True)
    environment = {**os.environ, **settings.to_env()}
    with (settings.home / "demo.log").open("ab") as log:
        return subprocess.Popen([COMMAND, *command], env=environment, stdout=log, stderr=log)


def under_way(settings: Settings, moment: Callable[[Settings], bool], running: subprocess.Popen[bytes]) -> bool:
    """Whether it is that moment; what is not up yet is not there yet."""
    assert not running.poll()  # `up` ends when all is up
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


def ledgers(settings: Settings) -> dict[str, Any]:
    """Name of each batch -> its two gates."""
    fs, layout = Hdfs(settings), Layout(settings.hdfs.root, settings.kafka.topic)
    return {cut.name: ledger.read(fs, layout, cut) for cut in batches.all(fs, layout)}
