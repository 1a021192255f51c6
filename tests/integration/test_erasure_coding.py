"""The sink's files under the policies of the settings, on an HDFS of three DataNodes."""

from __future__ import annotations

import getpass
from collections.abc import Iterator

import pytest
import requests

from infra.services.cluster import Cluster
from infra.settings import Settings
from storage.errors import StorageError
from storage.hdfs import Hdfs
from tests.support.corners import produce
from tests.support.datanodes import datanodes
from tests.support.events import event
from tests.support.landing import Landing, landing
from tests.support.ports import free_ports
from tests.support.servers import running_sink

POLICY = "XOR-2-1-1024k"


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Settings of a NameNode with three DataNodes."""
    settings = Settings(home=tmp_path_factory.mktemp("three"), **free_ports())
    cluster = Cluster(settings, only=["namenode", "datanode"])
    try:
        cluster.up()
        with datanodes(cluster, 2):
            yield settings
    finally:
        Cluster(settings).down()


def on_three(cluster_settings: Settings, three: Settings, **hdfs: object) -> Landing:
    """A corner of the shared Kafka, landed on these DataNodes."""
    corner = landing(cluster_settings)
    root = corner.settings.hdfs.root
    settings = corner.settings.model_copy(update={"hdfs": three.hdfs.model_copy(update={"root": root, **hdfs})})
    return Landing(settings)


def status(settings: Settings, path: str) -> dict[str, object]:
    answer = requests.get(
        f"{settings.hdfs.http_address}/webhdfs/v1{path}?op=GETFILESTATUS&user.name={getpass.getuser()}", timeout=10
    )
    found: dict[str, object] = answer.json()["FileStatus"]
    return found


def test_files_are_erasure_coded_and_read_as_any_other(cluster_settings: Settings, three: Settings) -> None:
    corner = on_three(cluster_settings, three, erasure_coding=POLICY)
    enable = f"{three.hdfs.http_address}/webhdfs/v1/?op=ENABLEECPOLICY&ecpolicy={POLICY}&user.name={getpass.getuser()}"
    with pytest.raises(StorageError, match=POLICY):
        corner.fs.mkdirs(corner.layout.root)
        corner.fs.set_policies(corner.layout.root)
    assert requests.put(enable, timeout=10).ok
    produce(corner.settings, 0, [event(str(n)) for n in range(300)])
    with running_sink(corner.settings) as sink:
        corner.landed(corner.cut("one"), sink)
    [file] = corner.files(corner.layout, 0)
    assert status(corner.settings, file)["ecPolicy"] == POLICY
    assert corner.messages(0) == [(n, str(n)) for n in range(300)]


def test_replication_block_size_modes_and_storage_policy_are_those_of_the_settings(
    cluster_settings: Settings, three: Settings
) -> None:
    own = {"replication": 3, "block_bytes": 1 << 20, "file_mode": "640", "folder_mode": "750", "storage_policy": "HOT"}
    corner = on_three(cluster_settings, three, **own)
    produce(corner.settings, 0, [event("a")])
    with running_sink(corner.settings) as sink:
        corner.landed(corner.cut("one"), sink)
    [file] = corner.files(corner.layout, 0)
    found = status(corner.settings, file)
    assert (found["replication"], found["blockSize"], found["permission"]) == (3, 1 << 20, "640")
    assert status(corner.settings, corner.layout.raw(0))["permission"] == "750"
    policy = f"{three.hdfs.http_address}/webhdfs/v1{corner.layout.root}/raw"
    asked = {"op": "GETSTORAGEPOLICY", "user.name": getpass.getuser()}
    assert requests.get(policy, params=asked, timeout=10).json()["BlockStoragePolicy"]["name"] == "HOT"


def test_a_policy_without_the_namenodes_address_names_the_setting(three: Settings) -> None:
    hdfs = three.hdfs.model_copy(update={"url": three.hdfs.address, "storage_policy": "HOT"})
    with pytest.raises(StorageError, match="CLICKSTREAM_HDFS__HTTP_URL"):
        Hdfs(three.model_copy(update={"hdfs": hdfs})).set_policies("/")
