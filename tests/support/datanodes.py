"""An HDFS of several DataNodes, each of which a test may kill."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import requests

from infra.services.cluster import Cluster
from infra.settings import Settings
from tests.support.ports import free_ports
from tests.support.waiting import eventually


class DataNode:
    """One more beside the managed one; Hadoop's own options say what is different."""

    def __init__(self, cluster: Cluster, home: Path) -> None:
        [managed] = [service for service in cluster.services() if service.name == "datanode"]
        home.mkdir()
        self._home = home
        ports = free_ports()["hdfs"]
        options = {
            "dfs.datanode.data.dir": f"file://{home}/data",
            "dfs.datanode.address": f"127.0.0.1:{ports['datanode_port']}",
            "dfs.datanode.http.address": f"127.0.0.1:{ports['datanode_http_port']}",
            "dfs.datanode.ipc.address": f"127.0.0.1:{ports['datanode_ipc_port']}",
        }
        arguments = [argument for name, value in options.items() for argument in ("-D", f"{name}={value}")]
        with (home / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [*managed.command, *arguments], env=cluster.environment(), stdout=log, stderr=log
            )

    @property
    def writes(self) -> bool:
        """Whether a block is being written to it."""
        return any(self._home.glob("data/current/*/current/rbw/blk_*"))

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait(30)


@contextmanager
def datanodes(cluster: Cluster, more: int) -> Iterator[list[DataNode]]:
    """So many beside the managed one, all of them live."""
    home = cluster.settings.home
    others: list[DataNode] = []
    try:
        others += [DataNode(cluster, home / f"datanode-{number}") for number in range(2, 2 + more)]
        eventually(lambda: live(cluster.settings) == 1 + more)
        yield others
    finally:
        for other in others:
            other.end()


def live(settings: Settings) -> int:
    """How many DataNodes the NameNode counts."""
    url = f"{settings.hdfs.http_address}/jmx?qry=Hadoop:service=NameNode,name=FSNamesystemState"
    return int(requests.get(url, timeout=5).json()["beans"][0]["NumLiveDataNodes"])
