"""Jobs on a real YARN, in both modes, with a Python that has no packages; whatever is killed, the table is right."""

from __future__ import annotations

import json
import signal
import subprocess
import venv
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest
import requests

from infra.services import spark as spark_services
from infra.services.cluster import Cluster
from infra.settings import Settings
from infra.spark import archives, submit
from ingest.event.event import ClickEvent
from processing.runtime import code_version
from processing.runtime.registry import Registry
from processing.tables.iceberg import NAMESPACE, Table
from processing.tables.schemas import DUPLICATES, EVENTS
from processing.training import model_files
from storage.batches import cuts, ledger
from storage.hdfs import Hdfs
from storage.layout import Layout
from tests.support.events import click
from tests.support.landing import land
from tests.support.ports import free_ports
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = pytest.mark.cluster

SERVERS = ["namenode", "datanode", "resourcemanager", "nodemanager", "history"]
EXECUTOR, DRIVER = "YarnCoarseGrainedExecutorBackend", "yarn.ApplicationMaster --class"
IMPORTS = """
import json, sys
from pyspark.sql import SparkSession

def found(_):
    import hdfs_native, numpy, pandas, pyarrow, pydantic
    return [(sys.prefix, [one.__file__ for one in (hdfs_native, numpy, pandas, pyarrow, pydantic)])]

context = SparkSession.builder.getOrCreate().sparkContext
print("found", json.dumps(context.parallelize([0], 1).mapPartitions(found).collect()[0]))
"""


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """HDFS, YARN and the history server of a home of their own; workers have a Python without any package."""
    home = tmp_path_factory.mktemp("yarn")
    venv.create(home / "bare", with_pip=False)
    ports = free_ports()
    python = str(home / "bare" / "bin" / "python")
    small = {"driver_memory": "600m", "executor_memory": "600m", "shuffle_partitions": 1}
    conf = {"spark.executor.instances": "1", "spark.executor.cores": "2"}
    spark = ports["spark"] | small | {"master": "yarn", "python": python, "conf": conf}
    old = {"freshness_hours": 1e6, "search_trials": 1}  # `land` appends in 2015
    settings = Settings(home=home / "home", **ports | {"spark": spark, "processing": old})  # type: ignore[arg-type]
    cluster = Cluster(settings, only=SERVERS)
    try:
        cluster.up()
        yield settings
    finally:
        cluster.down()


def landed(settings: Settings, name: str) -> list[ClickEvent]:
    """A batch of 2,000 page views, the first 100 of them twice."""
    once = [click(message_id=f"{name}-{n}", anonymous_id=f"v{n % 50}", item_id=f"/{n % 7}") for n in range(2_000)]
    land(settings, name, {0: once[:1_200], 1: once[1_200:] + once[:100]})
    return once


def submitted(
    settings: Settings, batch: str, mode: str = "client", job: str = "curate_events"
) -> subprocess.Popen[bytes]:
    """The job on its way."""
    command = submit.command(settings, job, ["--batch", batch], ["--deploy-mode", mode])
    return start(settings, command, f"{batch}-{mode}")


def start(settings: Settings, command: list[str], name: str) -> subprocess.Popen[bytes]:
    # Spark would hand the PYTHONPATH of whoever runs the tests on to its workers.
    environment = {name: value for name, value in Cluster(settings).environment().items() if name != "PYTHONPATH"}
    with log(settings, name).open("ab") as out:
        return subprocess.Popen(command, env=environment, stdout=out, stderr=out)


def log(settings: Settings, name: str) -> Path:
    return settings.home / f"{name}.log"


def said(settings: Settings, name: str) -> str:
    """The end of what its jobs printed here."""
    return "".join(file.read_text()[-3000:] for file in settings.home.glob(f"{name}*.log"))


def data_files(settings: Settings) -> int:
    """How many files of events are there, of whatever attempt."""
    table = f"{NAMESPACE.rsplit('.', 1)[-1]}/{EVENTS.name}"
    return Hdfs(settings).count_files(f"{settings.hdfs.root}/warehouse/{table}/data")


def works_on(settings: Settings, batch: str, running: subprocess.Popen[bytes]) -> None:
    """Waits until it has begun to write events."""
    before = data_files(settings)

    def begun() -> bool:
        assert running.poll() is None, said(settings, batch)
        return data_files(settings) > before

    eventually(begun, 240)


def containers(settings: Settings, kind: str) -> list[psutil.Process]:
    """JVMs of this YARN's containers, by a part of their command line."""
    local = str(settings.home / "data" / "yarn-local")
    found = []
    for process in psutil.process_iter():
        try:
            line = " ".join(process.cmdline())
        except psutil.Error:
            continue
        if process.name() == "java" and kind in line and local in line:
            found.append(process)
    return found


def applications(settings: Settings) -> dict[str, dict[str, Any]]:
    """What the ResourceManager knows, by id, in order of submission."""
    url = f"http://{settings.hdfs.host}:{settings.spark.yarn_http_port}/ws/v1/cluster/apps"
    answer = requests.get(url, timeout=10).json()
    return {one["id"]: one for one in sorted((answer["apps"] or {}).get("app", []), key=lambda one: str(one["id"]))}


def assert_right(settings: Settings, reader: SparkSession, batch: str, once: list[ClickEvent]) -> None:
    """Each event once, each second copy among the duplicates, the gate balanced."""
    fs, layout = Hdfs(settings), Layout(settings.hdfs.root, settings.kafka.topic)
    cut = cuts.get(fs, layout, batch)
    gate = ledger.load(fs, layout, cut)
    assert gate.published_balanced and (gate.total("curated"), gate.total("duplicates")) == (2_000, 100)

    def ids(table: Table) -> Counter[str]:
        rows = reader.table(table.full_name).where(f"batch = {cut.number}").select("event_id")
        return Counter(row["event_id"] for row in rows.collect())

    assert ids(EVENTS) == Counter(event.event_id for event in once)
    assert ids(DUPLICATES) == Counter(event.event_id for event in once[:100])


def two_more(settings: Settings, known: set[str]) -> tuple[str, str]:
    """Ids of two applications that are new since `known` was asked for."""
    eventually(lambda: len(set(applications(settings)) - known) == 2, 120)
    first, second = [id_ for id_ in applications(settings) if id_ not in known]
    return first, second


def test_a_driver_in_a_container_is_ended_by_its_retry_or_killed_and_the_next_one_is_right(
    own: Settings, reader: SparkSession
) -> None:
    once = landed(own, "container")
    known = set(applications(own))
    orphaned = submitted(own, "container", "cluster")
    works_on(own, "container", orphaned)
    for executor in containers(own, EXECUTOR):
        executor.suspend()  # its driver waits for it
    orphaned.kill()  # the submitter alone: the driver goes on

    retry = submitted(own, "container", "cluster")
    first, second = two_more(own, known)
    eventually(lambda: applications(own)[first]["state"] in ("KILLED", "FINISHED", "FAILED"), 240)
    assert applications(own)[first]["state"] == "KILLED" and second in applications(own)[first]["diagnostics"]
    works_on(own, "container", retry)
    driver = next(process for process in containers(own, DRIVER) if second in " ".join(process.cmdline()))
    driver.kill()
    assert retry.wait(60) != 0

    last = submitted(own, "container", "cluster")
    assert last.wait(240) == 0, said(own, "container")
    assert_right(own, reader, "container", once)
    eventually(lambda: not containers(own, DRIVER), 30)


def test_a_driver_here_and_then_an_executor_are_killed_in_mid_job_and_no_row_is_lost_or_doubled(
    own: Settings, reader: SparkSession
) -> None:
    once = landed(own, "client")
    running = submitted(own, "client")
    works_on(own, "client", running)
    running.kill()  # spark-submit has become the driver's JVM
    assert running.wait(30) == -signal.SIGKILL
    eventually(lambda: not containers(own, EXECUTOR), 60)

    again = submitted(own, "client")
    works_on(own, "client", again)
    [victim] = containers(own, EXECUTOR)
    victim.kill()
    assert again.wait(240) == 0, said(own, "client")
    assert "job_finished" in log(own, "client-client").read_text()
    assert_right(own, reader, "client", once)


def test_models_are_trained_judged_and_registered_in_containers(own: Settings) -> None:
    for job in (
        "build_features",
        "build_examples",
        "train_recommender",
        "evaluate_recommender",
        "train_ranker",
        "train_click_models",
    ):
        running = submitted(own, "client", "cluster", job)
        assert running.wait(300) == 0, said(own, "client")
    fs, layout = Hdfs(own), Layout(own.hdfs.root, own.kafka.topic)
    training = model_files.read(fs, own.hdfs.root, cuts.get(fs, layout, "client"))
    [version] = Registry(own).versions()
    assert training.final and (version.name, version.decision["checks"][0]["name"]) == (training.version, "better")
    assert code_version.of(own).endswith(Registry(own).read_run(version.run_id)["tags"]["code"])


def test_a_worker_needs_only_python_and_the_history_server_shows_its_job(own: Settings, tmp_path: Path) -> None:
    script = tmp_path / "imports.py"
    script.write_text(IMPORTS)
    running = start(own, [str(submit.spark_home() / "bin" / "spark-submit"), str(script)], "imports")
    assert running.wait(180) == 0, said(own, "imports")
    [line] = [line for line in log(own, "imports").read_text().splitlines() if line.startswith("found ")]
    prefix, files = json.loads(line.removeprefix("found "))
    assert prefix == str(Path(own.spark.python).parents[1])
    assert len(files) == 5 and all("/environment/" in file and "/container_" in file for file in files)
    url = f"{Cluster(own, only=SERVERS).urls()['history']}/api/v1/applications?status=completed"
    eventually(lambda: "imports.py" in {one["name"] for one in requests.get(url, timeout=10).json()}, 30)


def test_what_lies_on_hdfs_is_not_uploaded_again(own: Settings) -> None:
    fs, library = Hdfs(own), submit.library(own)
    before = fs.list(library)
    assert len(before) == 2
    shell = spark_services.FsShell(own, Cluster(own).environment())
    assert spark_services.upload(own, shell, [archives.spark(), archives.environment()]) == []
    assert fs.list(library) == before


def test_a_task_follows_its_driver_in_a_container_and_ends_it(own: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    in_containers = own.model_copy(update={"spark": own.spark.model_copy(update={"deploy_mode": "cluster"})})
    environment = Cluster(in_containers).environment()
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "dags"))
    import stages
    from airflow.sdk.exceptions import AirflowFailException

    known = set(applications(own))
    with pytest.raises(AirflowFailException, match=r"curate_events --batch nowhere: a bad argument, .* batch"):
        stages.SparkJob(task_id="curate", job="curate_events", batch="nowhere", outlets=[]).execute({})
    [failed] = [one for id_, one in applications(own).items() if id_ not in known]
    assert "User application exited with status 2" in failed["diagnostics"]

    landed(own, "ended")
    task = stages.SparkJob(task_id="curate", job="curate_events", batch="ended", outlets=[])
    before = data_files(own)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(task.execute, {})
        eventually(lambda: data_files(own) > before, 240)
        task.on_kill()
        with pytest.raises(RuntimeError, match="state: KILLED"):
            running.result(60)
    eventually(lambda: not containers(own, DRIVER), 30)
