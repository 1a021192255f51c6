"""What tests on a whole cluster of their own share; `own` is the fixture of its settings."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from infra.jars import jars
from infra.settings import Settings

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


@pytest.fixture(scope="module")
def reader(own: Settings) -> Iterator[SparkSession]:
    """A session in this process that reads the same tables."""
    from pyspark.sql import SparkSession

    catalog = "spark.sql.catalog.clickstream"
    conf = {
        "spark.jars": ",".join(map(str, jars("spark"))),
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        catalog: "org.apache.iceberg.spark.SparkCatalog",
        f"{catalog}.type": "hadoop",
        f"{catalog}.warehouse": f"{own.hdfs.address}{own.hdfs.root}/warehouse",
        f"{catalog}.cache-enabled": "false",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.shuffle.partitions": "1",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
    }
    session = SparkSession.builder.master("local[1]").appName("reader").config(map=conf).getOrCreate()
    yield session
    session.stop()
