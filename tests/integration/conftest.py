"""A Spark session with Iceberg on local folders; real servers come from tests/conftest.py."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from infra.settings import Settings
from ingest.codec import SCHEMA, encode, split
from ingest.events import ClickEvent, Device, Page, Source, as_dict, event_id
from storage.batches import Cut

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    from storage.hdfs import Hdfs
    from storage.layout import Layout

Events = Callable[..., "DataFrame"]
Run = Callable[[str, str], int]  # (job, batch) -> exit code
KNOWN = "event_id STRING, batch BIGINT, partition INT, offset BIGINT, payload_hash BIGINT"  # as curation looks back


@pytest.fixture
def corner(cluster_settings: Settings) -> Settings:
    """Settings of the running servers with a topic and an HDFS root that one test has for itself."""
    from tests.integration.sandbox import own_corner

    return own_corner(cluster_settings)


@pytest.fixture
def fs(corner: Settings) -> Hdfs:
    """The corner's HDFS."""
    from storage.hdfs import Hdfs

    return Hdfs(corner)


@pytest.fixture
def layout(corner: Settings) -> Layout:
    """Where things lie in the corner."""
    from storage.layout import Layout

    return Layout(corner.hdfs.root, corner.kafka.topic)


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    """local[2], UTC, few shuffle partitions, the Iceberg catalog `clickstream` on a fresh folder."""
    from pyspark.sql import SparkSession

    from infra.jars import jars

    folder = tmp_path_factory.mktemp("spark")
    conf = {
        "spark.jars": ",".join(map(str, jars("spark"))),
        "spark.pyspark.python": sys.executable,
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.extraJavaOptions": "-Xss4m -XX:+UseParallelGC -XX:+ExitOnOutOfMemoryError",
        "spark.driver.memory": "2g",
        "spark.hadoop.dfs.client.block.write.locateFollowingBlock.initial.delay.ms": "10",
        "spark.hadoop.dfs.client.block.write.locateFollowingBlock.retries": "12",
        "spark.sql.catalog.clickstream": "org.apache.iceberg.spark.SparkCatalog",
        "spark.sql.catalog.clickstream.type": "hadoop",
        "spark.sql.catalog.clickstream.warehouse": (folder / "warehouse").as_uri(),
        "spark.sql.extensions": "org.apache.iceberg.spark.extensions.IcebergSparkSessionExtensions",
        # Few rows: to compile a query, or to describe it for a UI, takes longer than to run it.
        "spark.sql.codegen.factoryMode": "NO_CODEGEN",
        "spark.sql.codegen.wholeStage": "false",
        "spark.sql.ui.explainMode": "simple",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.shuffle.partitions": "2",
        "spark.sql.warehouse.dir": str(folder / "hive"),
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
    }
    session = SparkSession.builder.master("local[2]").appName("tests").config(map=conf).getOrCreate()
    session.sparkContext.setLogLevel("ERROR")
    logging.getLogger("py4j").setLevel(logging.WARNING)  # it speaks at exit, to a closed stream
    session.sparkContext.setCheckpointDir(str(folder / "checkpoints"))
    yield session
    session.stop()


@pytest.fixture(scope="module")
def tables_dropped(spark: SparkSession) -> Iterator[None]:
    """For tests that write tables: none is there before the module, none is left after it."""
    from processing.iceberg import NAMESPACE

    def drop() -> None:
        spark.sql(f"CREATE NAMESPACE IF NOT EXISTS {NAMESPACE}")
        for row in spark.sql(f"SHOW TABLES IN {NAMESPACE}").collect():
            spark.sql(f"DROP TABLE {NAMESPACE}.{row['tableName']} PURGE")

    drop()
    yield
    drop()


@pytest.fixture
def run(own: Settings, tables_dropped: None, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a job's main for a batch in this process, with the settings `own` of the test's module; its exit code."""
    import importlib

    for name, value in own.to_env().items():
        monkeypatch.setenv(name, value)
    return lambda job, batch: importlib.import_module(f"processing.jobs.{job}").main(["--batch", batch])


def click(**fields: Any) -> ClickEvent:
    """A page view of ann on /a at 0 ms; a test states only what differs, `event_id` is made of `message_id`."""
    base = {
        "message_id": "m",
        "event_type": "page_view",
        "occurred_at": 1_431_857_100_000,
        "received_at": 1_431_857_101_000,
        "anonymous_id": "ann",
        "page": Page(path="/a"),
        "device": Device(type="desktop"),
        "write_key": "demo",
        "source": Source(protocol="native"),
        "item_id": "/a",
    }
    merged = base | fields
    return ClickEvent(**{"event_id": event_id("demo", str(merged["message_id"]))} | merged)


@pytest.fixture(scope="session")
def raw_rows(spark: SparkSession) -> Events:
    """Landed envelopes, from (partition, offset, ClickEvent) triples."""
    from processing.raw import SCHEMA_DDL

    def make(*landed: tuple[int, int, ClickEvent]) -> DataFrame:
        lines = [
            json.dumps({"partition": p, "offset": o, "appended_at": event.received_at, "event": as_dict(event)})
            for p, o, event in landed
        ]
        rows = spark.createDataFrame([(line,) for line in lines], "line STRING")
        return rows.selectExpr(f"from_json(line, '{SCHEMA_DDL}') AS row").select("row.*")

    return make


@pytest.fixture(scope="session")
def events(spark: SparkSession, raw_rows: Events) -> Events:
    """Rows of the table events, from ClickEvents, each with its own message_id; all of batch `batch`."""
    from pyspark.sql import functions as F

    from processing import curate, tables

    def make(*clicks: ClickEvent, batch: int = 1) -> DataFrame:
        landed = raw_rows(*((0, offset, event) for offset, event in enumerate(clicks)))
        classified = curate.classify(landed, spark.createDataFrame([], KNOWN), batch)
        rows = curate.curated(classified, None, timedelta()).withColumn("batch", F.lit(batch).cast("bigint"))
        # Without its lineage: tests look at the rows again and again.
        return rows.select(*tables.EVENTS.columns).localCheckpoint()

    return make


def land(settings: Settings, name: str, clicks: Mapping[int, Sequence[ClickEvent]]) -> Cut:
    """Puts events on HDFS as the sink does, one file per partition after the last cut, and takes cut `name`."""
    from storage import batches
    from storage.containers import Container, FileInfo, event_envelope
    from storage.hdfs import Hdfs
    from storage.layout import Layout

    fs, layout = Hdfs(settings), Layout(settings.hdfs.root, settings.kafka.topic)
    last = batches.newest(fs, layout)
    ends = dict(last.ends) if last else {}
    for partition, landed in clicks.items():
        start = ends.get(partition, 0)
        ends[partition] = start + len(landed)
        if not landed:
            continue
        container = Container(event_envelope(SCHEMA), partition, settings.sink.codec)
        for offset, event in enumerate(landed, start):
            container.add(offset, event.received_at, split(encode(event))[1])
        info = FileInfo(layout.topic, partition, start, ends[partition] - 1, container.finish())
        path = f"{layout.raw(partition)}/{layout.file(partition, info.first, info.last)}"
        fs.create(path, container.file(info), create_parents=True)
    return batches.take(fs, layout, name, lambda: ends)
