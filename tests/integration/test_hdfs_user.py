"""One setting says as whom HDFS knows every part of the platform: hdfs-native, WebHDFS, Java and Spark."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import requests

from infra import jars
from infra.jars import jvm
from infra.services.cluster import Cluster
from infra.settings import Settings
from storage.errors import StorageError
from storage.hdfs import Hdfs
from tests.support.corners import own_corner

WRITE = "from infra.settings import Settings as S; from storage.hdfs import Hdfs; s = S.from_env(); "
WRITE += "Hdfs(s).write_atomically(s.hdfs.root + '/{}/file', b'x')"


def changed(settings: Settings, **hdfs: Any) -> Settings:
    return settings.model_copy(update={"hdfs": settings.hdfs.model_copy(update=hdfs)})


@pytest.fixture
def corner(cluster_settings: Settings, tmp_path: Path) -> Settings:
    """A folder of the superuser's in which everybody may write; the servers as others' would be, with a home of our
    own.
    """
    own = own_corner(cluster_settings)
    Hdfs(changed(own, folder_mode="777")).mkdirs(own.hdfs.root)
    there = {"url": own.hdfs.address, "http_url": own.hdfs.http_address}
    return changed(own, **there).model_copy(update={"home": tmp_path / "home"})


def owner(settings: Settings, name: str) -> str:
    url = f"{settings.hdfs.http_address}/webhdfs/v1{settings.hdfs.root}/{name}"
    return str(requests.get(url, params={"op": "GETFILESTATUS"}, timeout=10).json()["FileStatus"]["owner"])


def write(settings: Settings, folder: str, **environment: str) -> str:
    """Lets a process of ours write; the owner of what it wrote."""
    command = [sys.executable, "-c", WRITE.format(folder)]
    subprocess.run(command, env={**os.environ, **settings.to_env(), **environment}, check=True, timeout=60)
    return owner(settings, f"{folder}/file")


def test_the_setting_beats_the_environment_and_that_the_processs_own(corner: Settings) -> None:
    closed = f"{corner.hdfs.root}/closed"
    Hdfs(corner).mkdirs(closed)
    assert write(corner, "environment", HADOOP_USER_NAME="somebody") == "somebody"
    assert write(changed(corner, user="anybody"), "setting", HADOOP_USER_NAME="somebody") == "anybody"
    mine = changed(corner, user="anybody", storage_policy="HOT")
    Hdfs(mine).set_policies(f"{corner.hdfs.root}/setting")
    with pytest.raises(StorageError, match="user=anybody"):
        Hdfs(mine).set_policies(closed)


def test_the_servers_and_a_job_submitted_by_hand_have_it_too(corner: Settings) -> None:
    mine = changed(corner, user="anybody")
    cluster = Cluster(mine, only=["namenode"])  # which is there: so this writes the configuration files alone
    cluster.up()
    try:
        environment = cluster.environment()
    finally:
        cluster.down()
    defaults = (mine.home / "conf" / "spark" / "spark-defaults.conf").read_text()
    assert re.search(r"^spark.yarn.appMasterEnv.HADOOP_USER_NAME +anybody$", defaults, re.MULTILINE)
    [of_driver] = re.findall(r"^spark.driver.extraJavaOptions +(.+)$", defaults, re.MULTILINE)

    def touch(name: str, environment: dict[str, str], *options: str) -> str:
        """Lets a JVM make a file, as servers and drivers would; its owner."""
        class_path = f"{mine.home}/conf/hadoop:{jars.class_path(jars.jars('hadoop'))}"
        tool = ["org.apache.hadoop.fs.FsShell", "-touchz", f"{mine.hdfs.root}/{name}"]
        command = jvm.command(mine, class_path, *tool, heap="128m", options=options)
        subprocess.run(command, env=environment, check=True, timeout=60, capture_output=True)
        return owner(corner, name)

    assert touch("server", environment) == "anybody"
    assert environment.pop("HADOOP_USER_NAME") == "anybody"
    assert touch("driver", environment, *of_driver.split()) == "anybody"
