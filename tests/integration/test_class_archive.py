"""A job's JVM maps its classes from the archive that the set-up made."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from infra.services.cluster import Cluster
from infra.settings import Settings
from infra.spark import class_archive, submit


def test_a_driver_takes_its_classes_from_the_archive(cluster_settings: Settings, tmp_path: Path) -> None:
    if not class_archive.path().exists():
        pytest.skip("this Java has no archive of its own classes, on which another could stand")
    # Java's own variable, which each of the two JVMs of spark-submit reads.
    log = {"JDK_JAVA_OPTIONS": f"-Xlog:class+load:file={tmp_path}/%p.log"}
    command = [submit.spark_home() / "bin" / "spark-submit", "--version"]
    subprocess.run(command, env=Cluster(cluster_settings).environment() | log, capture_output=True, check=True)
    [loaded] = [text for file in tmp_path.iterdir() if "spark.deploy.SparkSubmit " in (text := file.read_text())]
    lines = [line for line in loaded.splitlines() if "source: " in line]
    assert sum("shared objects file (top)" in line for line in lines) > len(lines) / 2
