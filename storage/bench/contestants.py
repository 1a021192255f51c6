"""The contestants of the sink's bench: plain consumption, the sink, and Spark Structured Streaming."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from infra import jars
from infra.errors import DependencyError, ServiceError
from infra.jars.jvm import java_home
from infra.settings import Settings
from infra.spark.submit import spark_home
from infra.topics import end_offsets
from infra.web.serving import free_port
from storage.batches import cuts, ledger
from storage.batches.cuts import Cut
from storage.bench.measure import Processes, Program, first_line, logs_of, measure
from storage.bench.output import Output, read_back
from storage.formats import FORMATS
from storage.formats.format import Format
from storage.hdfs import Hdfs
from storage.layout import Layout

_PROJECT = Path(__file__).parents[2]
_PEER = _PROJECT / "processing" / "bench" / "spark_sink.py"
_LOOK_SECONDS = 0.05
_PATIENCE_SECONDS = 900


@dataclass(frozen=True, slots=True)
class Task:
    """The input of a turn: the topics of the settings, and `json_topic` with the same events as JSON."""

    settings: Settings
    json_topic: str
    ids: set[str]

    def own(self, name: str, **sink: Any) -> Settings:
        """Settings with a consumer group and an HDFS root of this turn's own."""
        settings = self.settings
        return settings.model_copy(
            update={
                "hdfs": settings.hdfs.model_copy(update={"root": f"{settings.hdfs.root}/{name}"}),
                "sink": settings.sink.model_copy(update={"group": f"{settings.kafka.topic}-{name}", **sink}),
            }
        )


Contestant = Callable[[Task, str], dict[str, Any]]  # (task, name of the turn) -> measurements


def consume(task: Task, name: str) -> dict[str, Any]:
    """The limit: librdkafka with the sink's configuration, and records are dropped."""
    command = [sys.executable, "-m", "storage.bench.consume", str(len(task.ids))]
    program = Program(command, environment(task.own(name)), ends=True)
    cost, _ = measure(name, [program], task.settings.home, first_line)
    return asdict(cost)


def sink(suffix: str, processes: int = 1) -> Contestant:
    """`clickstream sink`, from its start until files cover all offsets up to the topic's end."""

    def play(task: Task, name: str) -> dict[str, Any]:
        settings = task.own(name, format=suffix)
        fs, layout = Hdfs(settings), Layout(settings.hdfs.root, settings.kafka.topic)
        cut = cuts.take(fs, layout, "bench", lambda: end_offsets(settings, layout.topic))
        programs = [sink_program(settings) for _ in range(processes)]
        logs = logs_of(name, settings.home, processes)
        cost, said = measure(name, programs, settings.home, lambda running: _landed(fs, layout, cut, running, logs))
        if missing := ledger.current(fs, layout, cut).missing:
            raise ServiceError("sink", f"offsets are not accounted for: {missing}")
        shares = [sum(line["records"] for line in published(text, layout.topic)) for text in said]
        return asdict(cost) | _checked(fs, f"{settings.hdfs.root}/raw/{layout.topic}", task) | {"shares": shares}

    return play


def spark(suffix: str) -> Contestant:
    """Structured Streaming until all records are committed: values into Avro, or JSON into typed columns."""

    def play(task: Task, name: str) -> dict[str, Any]:
        settings = task.own(name)
        root = f"{settings.hdfs.address}{settings.hdfs.root}"
        program = Program(_submit(task, FORMATS[suffix], root), environment(settings, spark=True), ends=True)
        cost, _ = measure(name, [program], settings.home, first_line)
        return asdict(cost) | _checked(Hdfs(settings), f"{settings.hdfs.root}/files", task)

    return play


def missing_format(suffix: str) -> str:
    """Reason why the sink can't write this format; empty if it can."""
    try:
        FORMATS[suffix].require(False)
    except DependencyError as error:
        return str(error)
    return ""


def missing_spark(settings: Settings) -> str:
    """Reason why Spark can't take part; empty if it can. Downloads its jars if they are missing."""
    if settings.kafka.properties:
        return "kafka.properties are librdkafka's, Spark would need Java's"
    if find_spec("pyspark") is None:
        return "pyspark is not installed (the extra `spark`)"
    try:
        java_home(settings)
        jars.jars("bench")
    except DependencyError as error:
        return str(error)
    return ""


def _landed(fs: Hdfs, layout: Layout, cut: Cut, running: Processes, logs: Sequence[Path]) -> None:
    """Waits until the cut has landed; lists HDFS only after a sink has logged a file: that takes processor time."""
    deadline, said = time.monotonic() + _PATIENCE_SECONDS, -1
    while True:
        size = sum(log.stat().st_size for log in logs)
        if size != said and sum(len(file.part) for file in cuts.files(fs, layout, cut)) >= cut.offsets:
            return
        said = size
        if any(process.poll() is not None for process in running):
            return  # measure says why
        if time.monotonic() > deadline:
            raise ServiceError("sink", f"has not landed {cut.offsets:,} records within {_PATIENCE_SECONDS} s")
        time.sleep(_LOOK_SECONDS)


def published(text: str, topic: str) -> list[Any]:
    """The log lines of this topic's published files."""
    lines = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    return [line for line in lines if line["event"] == "published" and f"/{topic}+" in line["file"]]


def _checked(fs: Hdfs, folder: str, task: Task) -> dict[str, Any]:
    """Reads the output back and deletes it. Raises ServiceError unless it holds each event exactly once."""
    output: Output = read_back(fs, folder, task.ids)
    fs.delete(folder, recursive=True)
    if not output.exact:
        found = f"{output.records:,} records"
        raise ServiceError("bench", f"{folder}: {found} are not the {len(task.ids):,} events, each once")
    return asdict(output)


def sink_program(settings: Settings) -> Program:
    """`clickstream sink`, with its metrics on a free port."""
    own = settings.sink.model_copy(update={"metrics_port": free_port("127.0.0.1")})
    command = [sys.executable, "-m", "infra.cli", "sink"]
    return Program(command, environment(settings.model_copy(update={"sink": own})))


def environment(settings: Settings, spark: bool = False) -> dict[str, str]:
    """Environment variables of the settings, and of the code that this process runs."""
    environment = settings.to_env() | {"PYTHONPATH": str(_PROJECT)}
    if spark:
        environment |= {"JAVA_HOME": str(java_home(settings)), "PYSPARK_PYTHON": sys.executable}
        if settings.hdfs.conf_dir:
            environment["HADOOP_CONF_DIR"] = str(settings.hdfs.conf_dir)
    return environment


def _submit(task: Task, format_: Format, root: str) -> list[str]:
    """The command line of Spark, with Java's default compilers and collector, so that it is as fast as it can be."""
    settings = task.settings
    conf = {
        "spark.master": settings.spark.master,
        "spark.driver.memory": settings.spark.driver_memory,
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.hadoop.fs.defaultFS": settings.hdfs.address,
        "spark.jars": ",".join(map(str, jars.jars("bench"))),
        "spark.local.dir": str(settings.home),
        "spark.sql.session.timeZone": "UTC",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
    }
    options = [part for name, value in conf.items() for part in ("--conf", f"{name}={value}")]
    what, topic = ("columns", task.json_topic) if format_.columnar else ("values", settings.kafka.topic)
    submit = str(spark_home() / "bin" / "spark-submit")
    return [submit, *options, str(_PEER), settings.kafka.address, topic, what, format_.spark_source, root]
