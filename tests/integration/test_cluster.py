"""The one-machine cluster: clear refusals, and nothing lost or left behind when all is killed."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

import psutil
import pytest

from infra import topics
from infra.errors import ConfigurationError, ServiceError
from infra.services.cluster import Cluster
from infra.services.supervision import orphans
from infra.settings import Settings
from tests.support.ports import free_ports


@pytest.fixture
def own(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", **free_ports())


def test_a_taken_port_is_told_by_its_setting_and_nothing_is_started(own: Settings) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", own.kafka.port))
        holder.listen()
        with pytest.raises(ConfigurationError, match=rf"CLICKSTREAM_KAFKA__PORT: port {own.kafka.port}"):
            Cluster(own).up()
    assert not Cluster(own).supervisor.running
    assert not orphans(own)


def test_an_existing_kafka_that_does_not_answer_is_told_by_its_setting(own: Settings) -> None:
    absent = own.model_copy(update={"kafka": own.kafka.model_copy(update={"bootstrap_servers": "127.0.0.1:1"})})
    with pytest.raises(ServiceError, match="CLICKSTREAM_KAFKA__BOOTSTRAP_SERVERS"):
        topics.end_offsets(absent, "clicks")


def test_an_unknown_service_is_told_with_those_that_there_are(own: Settings) -> None:
    with pytest.raises(ServiceError, match=r"zookeeper: no such service; there are: kafka, namenode"):
        Cluster(own, only=["zookeeper"]).up()


def test_a_change_of_settings_is_refused_while_servers_run_with_the_old_ones(cluster_settings: Settings) -> None:
    spark = cluster_settings.spark.model_copy(update={"master": "local[1]"})
    with pytest.raises(ConfigurationError, match="CLICKSTREAM_SPARK__MASTER has changed"):
        Cluster(cluster_settings.model_copy(update={"spark": spark}), only=["kafka"]).up()


def test_after_kill_9_of_everything_up_finds_the_data_and_ends_what_was_left(own: Settings) -> None:
    cluster = Cluster(own, only=["kafka", "collector"])  # the collector renames its process
    cluster.up()
    try:
        ends = topics.end_offsets(own, own.kafka.topic)
        assert set(ends) == set(range(own.kafka.partitions))
        first = {info["pid"] for info in cluster.supervisor.states().values() if info["pid"]}
        assert len(first) == 2
        supervisor = int((own.home / "run" / "supervisord.pid").read_text())

        os.kill(supervisor, signal.SIGKILL)
        psutil.wait_procs([psutil.Process(supervisor)] if psutil.pid_exists(supervisor) else [], timeout=10)
        assert first <= {process.pid for process in orphans(own)}
        cluster.up()
        second = {info["pid"] for info in cluster.supervisor.states().values() if info["pid"]}
        assert len(second) == 2 and not any(psutil.pid_exists(pid) for pid in first)

        for process in [*orphans(own), psutil.Process(int((own.home / "run" / "supervisord.pid").read_text()))]:
            process.kill()
        cluster.up()
        assert topics.end_offsets(own, own.kafka.topic) == ends
        assert cluster.status()["kafka"]["state"] == "healthy"
    finally:
        cluster.down()
    assert not orphans(own)
    assert cluster.status()["kafka"]["state"] == "stopped"
