"""A Spark session for a bench: all cores of this machine, quiet, nothing but the loopback; ended with the bench."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from pyspark.sql import SparkSession

from infra.jars.jvm import java_home
from infra.settings import Settings

_LOGGING = """\
rootLogger.level = error
rootLogger.appenderRef.stderr.ref = stderr
appender.stderr.type = Console
appender.stderr.name = stderr
appender.stderr.target = SYSTEM_ERR
appender.stderr.layout.type = PatternLayout
appender.stderr.layout.pattern = %c{1}: %m%n
# A session begun from Python counts as a shell, whose level would replace the root's with a notice.
logger.shell.name = org.apache.spark.api.python.PythonGatewayServer
logger.shell.level = error
"""


@contextmanager
def session() -> Iterator[SparkSession]:
    """The session that is there, else one of its own, which ends here. Raises DependencyError without Java."""
    if (borrowed := SparkSession.getActiveSession()) is not None:
        yield borrowed
        return
    with TemporaryDirectory(prefix="clickstream-spark-") as folder, _environment(Path(folder)):
        builder = SparkSession.builder.master("local[*]").appName("clickstream bench")
        spark = builder.config(map=_configuration(Path(folder))).getOrCreate()
        try:
            yield spark
        finally:
            spark.stop()


def _configuration(folder: Path) -> dict[str, bool | float | int | str | None]:
    return {
        "spark.driver.bindAddress": "127.0.0.1",
        # MLlib's linear algebra is by Java's vectors, which without the second compiler are slower by far.
        "spark.driver.extraJavaOptions": "-Xss16m -XX:+UseSerialGC",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.memory": "2g",
        "spark.local.dir": str(folder),
        # Small data: tasks cost more than they bring.
        "spark.sql.shuffle.partitions": "2",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.warehouse.dir": str(folder / "warehouse"),
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
    }


@contextmanager
def _environment(folder: Path) -> Iterator[None]:
    """Spark's launcher takes these from the environment alone; a configuration for a cluster must not count here."""
    (folder / "log4j2.properties").write_text(_LOGGING)
    wanted = {
        "JAVA_HOME": str(java_home(Settings.from_env())),
        "SPARK_CONF_DIR": str(folder),
        "SPARK_LOCAL_IP": "127.0.0.1",
    }
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
