"""HDFS (NameNode, DataNode) and YARN (ResourceManager, NodeManager), or those that settings name."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import requests

from infra import jars
from infra.jars import jvm
from infra.services import spark
from infra.services.service import Service, http_problem, run_once
from infra.settings import Settings
from infra.spark import archives, submit

_HDFS = "org.apache.hadoop.hdfs.server"
_YARN = "org.apache.hadoop.yarn.server"
# Guice needs these on Java 17 and later.
_OPENS = ["--add-opens=java.base/java.lang=ALL-UNNAMED", "--add-exports=java.base/sun.net.util=ALL-UNNAMED"]


def services(settings: Settings, environment: dict[str, str], yarn: bool) -> list[Service]:
    """NameNode and DataNode; with `yarn` also ResourceManager and NodeManager, unless settings name existing ones."""
    wanted = _hdfs(settings, environment) if settings.hdfs.managed else [_existing_hdfs(settings, environment)]
    if yarn and settings.spark.yarn_managed:
        wanted += _yarn(settings, environment)
    elif yarn:
        wanted.append(_existing_yarn(settings, environment))
    return wanted


def _existing_hdfs(settings: Settings, environment: dict[str, str]) -> Service:
    """An external HDFS, healthy if its NameNode's port answers. A nameservice has no port, so it is not checked."""

    def problem() -> str | None:
        url = urlsplit(settings.hdfs.address)
        if url.port is None or url.hostname is None:
            return None
        try:
            socket.create_connection((url.hostname, url.port), timeout=3).close()
        except OSError as error:
            return f"{settings.hdfs.address} (CLICKSTREAM_HDFS__URL): {error}"
        return None

    return Service("namenode", problem, finish=lambda: spark.make_event_logs(settings, environment))


def _existing_yarn(settings: Settings, environment: dict[str, str]) -> Service:
    """An external YARN, healthy if its configuration exists; whether it accepts jobs is not checked."""

    def problem() -> str | None:
        file = submit.hadoop_conf_dir(settings) / "yarn-site.xml"
        return None if file.is_file() else f"there is no file {file} (CLICKSTREAM_SPARK__HADOOP_CONF_DIR)"

    return Service(
        "resourcemanager",
        problem,
        after=["namenode", "datanode"],
        finish=lambda: _upload(settings, environment),
    )


def _upload(settings: Settings, environment: dict[str, str]) -> None:
    wanted = (archives.spark(), archives.environment())
    spark.upload(settings, spark.FsShell(settings, environment), wanted)


def _hdfs(settings: Settings, environment: dict[str, str]) -> list[Service]:
    hdfs = settings.hdfs
    run = _runner(settings, hdfs.heap)

    def format_namenode() -> None:
        if not (settings.home / "data" / "namenode" / "current" / "VERSION").exists():
            command = run(f"{_HDFS}.namenode.NameNode", "-format", "-nonInteractive")
            run_once("namenode", command, settings.home / "logs" / "namenode-format.log", environment)

    def namenode_problem() -> str | None:
        return http_problem(f"http://{hdfs.host}:{hdfs.http_port}/jmx?qry=Hadoop:service=NameNode,name=NameNodeInfo")

    def datanode_problem() -> str | None:
        try:
            state = _jmx(settings, "FSNamesystemState")
        except (requests.RequestException, LookupError) as error:
            return f"the NameNode does not answer: {type(error).__name__}"
        if state["NumLiveDataNodes"] < 1:
            return "no live DataNode"
        return f"the NameNode is in {state['FSState']}" if state["FSState"] != "Operational" else None

    return [
        Service(
            "namenode",
            namenode_problem,
            run(f"{_HDFS}.namenode.NameNode"),
            {"HDFS__PORT": hdfs.port, "HDFS__HTTP_PORT": hdfs.http_port},
            hdfs.host,
            prepare=format_namenode,
        ),
        Service(
            "datanode",
            datanode_problem,
            run(f"{_HDFS}.datanode.DataNode"),
            {
                "HDFS__DATANODE_PORT": hdfs.datanode_port,
                "HDFS__DATANODE_HTTP_PORT": hdfs.datanode_http_port,
                "HDFS__DATANODE_IPC_PORT": hdfs.datanode_ipc_port,
            },
            hdfs.host,
            after=["namenode"],
            finish=lambda: spark.make_event_logs(settings, environment),
        ),
    ]


def _yarn(settings: Settings, environment: dict[str, str]) -> list[Service]:
    run = _runner(settings, settings.hdfs.heap)
    address = f"http://{settings.hdfs.host}:{settings.spark.yarn_http_port}"
    # The three ports beside yarn_port are the scheduler's, the nodes' and the admin's.
    ports = {f"SPARK__YARN_PORT{offset:+}": settings.spark.yarn_port + offset for offset in (-2, -1, 0, 1)}
    ports["SPARK__YARN_HTTP_PORT"] = settings.spark.yarn_http_port

    def nodes_problem() -> str | None:
        try:
            metrics = requests.get(f"{address}/ws/v1/cluster/metrics", timeout=3).json()["clusterMetrics"]
        except (requests.RequestException, LookupError) as error:
            return f"the ResourceManager does not answer: {type(error).__name__}"
        return None if metrics["activeNodes"] > 0 else "no active NodeManager"

    return [
        Service(
            "resourcemanager",
            lambda: http_problem(f"{address}/ws/v1/cluster/info"),
            run(f"{_YARN}.resourcemanager.ResourceManager"),
            ports,
            settings.hdfs.host,
        ),
        Service(
            "nodemanager",
            nodes_problem,
            run(f"{_YARN}.nodemanager.NodeManager"),
            host=settings.hdfs.host,
            after=["resourcemanager", "datanode"],
            finish=lambda: _upload(settings, environment),
        ),
    ]


def _runner(settings: Settings, heap: str) -> Callable[..., list[str]]:
    class_path = f"{settings.home}/conf/hadoop:{jars.class_path(jars.jars('hadoop'))}"

    def run(main: str, *arguments: str) -> list[str]:
        return jvm.command(settings, class_path, main, *arguments, heap=heap, options=_OPENS)

    return run


def _jmx(settings: Settings, name: str) -> dict[str, Any]:
    url = f"http://{settings.hdfs.host}:{settings.hdfs.http_port}/jmx?qry=Hadoop:service=NameNode,name={name}"
    beans: list[dict[str, Any]] = requests.get(url, timeout=3).json()["beans"]
    return beans[0]
