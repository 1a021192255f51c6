"""A Spark session with Iceberg on local folders, and the DAGs; real servers come from tests/conftest.py."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from infra.settings import Settings
from ingest.event.event import ClickEvent, as_dict
from tests.support.spark import KNOWN, Events, Run

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    from storage.hdfs import Hdfs
    from storage.layout import Layout


@pytest.fixture
def corner(cluster_settings: Settings) -> Settings:
    """Settings of the running servers with a topic and an HDFS root that one test has for itself."""
    from tests.support.corners import own_corner

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
def spark_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    """local[1], UTC, two partitions, the Iceberg catalog `clickstream` on a fresh folder."""
    from pyspark.sql import SparkSession

    from infra.jars import jars
    from infra.spark import class_archive

    folder = tmp_path_factory.mktemp("spark")
    conf = {
        "spark.jars": ",".join(map(str, jars("spark"))),
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.host": "127.0.0.1",
        # As jobs run on one machine: the second compiler costs more than it brings, classes are mapped from an archive.
        "spark.driver.extraClassPath": class_archive.class_path(),
        "spark.driver.extraJavaOptions": (
            "-Xss16m -XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=240m -XX:MetaspaceSize=512m "
            "-XX:+UseSerialGC -Xmn512m -XX:+ExitOnOutOfMemoryError "
            f"-XX:SharedArchiveFile='{class_archive.path()}'"
        ),
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
        "spark.default.parallelism": "2",
        "spark.buffer.pageSize": "1m",  # with one core each sort and hash table would take 64 MB
        "spark.python.sql.dataFrameDebugging.enabled": "false",  # where a call came from is in Python's traceback
        "spark.sql.adaptive.enabled": "false",
        "spark.sql.warehouse.dir": str(folder / "hive"),
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
    }
    os.environ["PYSPARK_PYTHON"] = sys.executable  # of workers
    session = SparkSession.builder.master("local[1]").appName("tests").config(map=conf).getOrCreate()
    session.sparkContext.setLogLevel("ERROR")
    logging.getLogger("py4j").setLevel(logging.WARNING)  # it speaks at exit, to a closed stream
    session.sparkContext.setCheckpointDir(str(folder / "checkpoints"))
    yield session
    session.stop()


@pytest.fixture(scope="module")
def spark(spark_session: SparkSession) -> Iterator[SparkSession]:
    """The session; what a module persisted ends with it, since Spark compares each query with all that is cached."""
    yield spark_session
    spark_session.catalog.clearCache()


@pytest.fixture(scope="module")
def tables_dropped(spark: SparkSession) -> Iterator[None]:
    """For tests that write tables: none is there before the module, none is left after it."""
    from processing.tables.iceberg import NAMESPACE

    def drop() -> None:
        spark.sql(f"CREATE NAMESPACE IF NOT EXISTS {NAMESPACE}")
        for row in spark.sql(f"SHOW TABLES IN {NAMESPACE}").collect():
            spark.sql(f"DROP TABLE {NAMESPACE}.{row['tableName']} PURGE")

    drop()
    yield
    drop()


@pytest.fixture
def run(own: Settings, spark: SparkSession, tables_dropped: None, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a job's main for a batch in this process, with the settings `own` of the test's module; its exit code."""
    import importlib

    for name, value in own.to_env().items():
        monkeypatch.setenv(name, value)

    def main(job: str, batch: str) -> int:
        done: int = importlib.import_module(f"processing.jobs.{job}").main(["--batch", batch])
        spark.catalog.clearCache()  # as the end of a job's process does
        return done

    return main


@pytest.fixture(scope="session")
def raw_rows(spark_session: SparkSession) -> Events:
    """Landed envelopes, from (partition, offset, ClickEvent) triples."""
    from processing.events.raw import SCHEMA_DDL

    def make(*landed: tuple[int, int, ClickEvent]) -> DataFrame:
        lines = [
            json.dumps({"partition": p, "offset": o, "appended_at": event.received_at, "event": as_dict(event)})
            for p, o, event in landed
        ]
        rows = spark_session.createDataFrame([(line,) for line in lines], "line STRING")
        return rows.selectExpr(f"from_json(line, '{SCHEMA_DDL}') AS row").select("row.*")

    return make


@pytest.fixture(scope="session")
def events(spark_session: SparkSession, raw_rows: Events) -> Events:
    """Rows of the table events, from ClickEvents, each with its own message_id; all of batch `batch`."""
    from pyspark.sql import functions as F

    from processing.events import curate
    from processing.tables import schemas

    def make(*clicks: ClickEvent, batch: int = 1) -> DataFrame:
        landed = raw_rows(*((0, offset, event) for offset, event in enumerate(clicks)))
        classified = curate.classify(landed, spark_session.createDataFrame([], KNOWN), batch)
        rows = curate.curated(classified, None, timedelta()).withColumn("batch", F.lit(batch).cast("bigint"))
        # Without its lineage: tests look at the rows again and again.
        return rows.select(*schemas.EVENTS.columns).localCheckpoint()

    return make


@pytest.fixture(scope="module")
def dagbag(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """All DAGs as an installation has them that cuts each hour."""
    dags = Path(__file__).parents[2] / "dags"
    with pytest.MonkeyPatch.context() as during:  # an Airflow that a later module starts must know nothing of it
        during.setenv("AIRFLOW_HOME", str(tmp_path_factory.mktemp("airflow")))
        during.setenv("AIRFLOW__CORE__LOAD_EXAMPLES", "False")
        during.setenv("AIRFLOW__CLICKSTREAM__SCHEDULE", "0 * * * *")
        during.setenv("AIRFLOW__CLICKSTREAM__START", "2026-05-01T12:00:00+00:00")
        from airflow.dag_processing.dagbag import BundleDagBag

        yield BundleDagBag(dag_folder=str(dags), bundle_path=dags)


@pytest.fixture(scope="module")
def stages(dagbag: Any) -> Any:
    """The module of which DAGs are made, importable since the DagBag found it."""
    import stages

    return stages
