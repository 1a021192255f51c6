"""Servers that die, sleep or refuse under a sink: it waits or ends with a message, and all is there once at the end.

What ends the sink, a supervisor starts again: here `supervised`. The servers are of this module alone.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator

import pytest

from infra import jars
from infra.errors import MAY_PASS
from infra.jars import jvm
from infra.services.cluster import Cluster
from infra.settings import Settings
from storage.errors import StorageError
from tests.support.corners import produce
from tests.support.datanodes import datanodes
from tests.support.events import event
from tests.support.failing_sink import Fault
from tests.support.landing import Landing
from tests.support.ports import free_ports
from tests.support.proof import proved
from tests.support.sinks import Supervised, corner, goes_on, landed, load, sink_process, supervised
from tests.support.waiting import eventually

SERVERS = ["kafka", "namenode", "datanode"]
ENDS = ("exit 2: clickstream: ", f"exit {MAY_PASS}: clickstream: ")  # refused, or not answered
FAILED = (1, 2, MAY_PASS)


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    settings = Settings(home=tmp_path_factory.mktemp("home"), **free_ports())
    cluster = Cluster(settings, only=SERVERS)
    try:
        cluster.up()
        yield cluster
    finally:
        Cluster(settings).down()


@pytest.fixture
def cluster(own: Cluster) -> Cluster:
    """All servers well, whatever the test before did to them."""
    own.up()
    return own


def pid(cluster: Cluster, service: str) -> int:
    return int(cluster.supervisor.states()[service]["pid"])


def with_hdfs(settings: Settings, **changes: object) -> Settings:
    return settings.model_copy(update={"hdfs": settings.hdfs.model_copy(update=changes)})


def busy(cluster: Cluster) -> Landing:
    return corner(cluster.settings, partitions=2, max_age_seconds=0.5)


def writable(place: Landing) -> bool:
    try:
        place.fs.write_atomically(f"{place.settings.hdfs.root}/probe", b"x", overwrite=True)
    except StorageError:
        return False
    return True


def told(sink: Supervised, *names: str) -> str:
    """For people: how its lives ended. Each but the last said why in one line that has one of `names`."""
    words = sink.last_words()
    for line in words:
        assert line.startswith(ENDS) and any(name in line for name in names), line
    return f"{len(sink.lives)} lives, {[line[:250] for line in words[:2]]}"


def test_a_namenode_that_is_killed_and_comes_back(cluster: Cluster) -> None:
    place = busy(cluster)
    with load(place.settings, 2) as producing, supervised(place.settings) as sink:
        goes_on(place)
        os.kill(pid(cluster, "namenode"), signal.SIGKILL)
        cluster.up()
        goes_on(place)
        sent = producing.stop()
        landed(place, "all")
    print(f"\nNameNode killed: {told(sink, place.settings.hdfs.root)}; {proved(place, sent)}")


def test_a_namenode_that_is_away_for_longer_than_anybody_waits(cluster: Cluster) -> None:
    place = busy(cluster)
    with load(place.settings, 2) as producing, supervised(place.settings) as sink:
        goes_on(place)
        cluster.supervisor.stop("namenode")
        eventually(lambda: len(sink.lives) > 2, 120)
        cluster.up()
        goes_on(place)
        sent = producing.stop()
        landed(place, "all")
    found = told(sink, "CLICKSTREAM_HDFS__URL")
    print(f"\nNameNode away: {found}; {proved(place, sent)}")


def stands_still(place: Landing, seconds: float) -> None:
    """Nothing more lands for so long, once five seconds have passed: or the fault has not reached the sink."""
    time.sleep(5)
    before = [place.files(place.layout, partition) for partition in (0, 1)]
    time.sleep(seconds - 5)
    assert [place.files(place.layout, partition) for partition in (0, 1)] == before


def safe_mode(settings: Settings, what: str) -> None:
    class_path = f"{settings.home}/conf/hadoop:{jars.class_path(jars.jars('hadoop'))}"
    tool = "org.apache.hadoop.hdfs.tools.DFSAdmin"
    command = jvm.command(settings, class_path, tool, "-safemode", what, heap="128m")
    subprocess.run(command, check=True, capture_output=True, timeout=60)


def test_safe_mode(cluster: Cluster) -> None:
    place = busy(cluster)
    with load(place.settings, 2) as producing, supervised(place.settings) as sink:
        goes_on(place)
        safe_mode(cluster.settings, "enter")
        try:
            eventually(lambda: len(sink.lives) > 2)
        finally:
            safe_mode(cluster.settings, "leave")
        goes_on(place)
        sent = producing.stop()
        landed(place, "all")
    found = told(sink, "SafeModeException")
    assert all(line.startswith(f"exit {MAY_PASS}: ") for line in sink.last_words())
    print(f"\nsafe mode: {found}; {proved(place, sent)}")


def test_a_datanode_that_is_killed_in_the_midst_of_a_block_and_comes_back(cluster: Cluster) -> None:
    # hdfs-native's hsync waits for ever for a DataNode that died in a block, so the sink must not.
    place = corner(cluster.settings, codec="null", max_records=3_000, publish_timeout_seconds=10.0)
    ids: list[str | None] = [f"{n}-{'x' * 300}" for n in range(4_500)]
    produce(place.settings, 0, [event(str(id_)) for id_ in ids])
    in_block = Fault("write", r"/e=\d+/\w+/t", nth=3, signal=signal.SIGSTOP)
    with sink_process(place.settings, in_block) as writing:
        eventually(writing.stopped)
        os.kill(pid(cluster, "datanode"), signal.SIGKILL)
        writing.signal(signal.SIGCONT)
        cluster.up()
        eventually(lambda: writable(place))  # the NameNode took the DataNode for alive all the time
        with supervised(place.settings):
            landed(place, "all", 45)
        eventually(lambda: writing.process.poll() is not None)
        code = writing.process.poll()
        assert code in FAILED, writing.tail()
    assert place.settings.hdfs.root in writing.last_line()
    print(f"\nDataNode killed in a block: exit {code} {writing.last_line()[:300]}; {proved(place, {0: ids})}")


def test_a_datanode_that_hangs_for_20_seconds(cluster: Cluster) -> None:
    place = busy(cluster)
    with load(place.settings, 2) as producing, supervised(place.settings) as sink:
        goes_on(place)
        sleeping = pid(cluster, "datanode")
        os.kill(sleeping, signal.SIGSTOP)
        try:
            stands_still(place, 20)
        finally:
            os.kill(sleeping, signal.SIGCONT)
        goes_on(place)
        sent = producing.stop()
        landed(place, "all")
    print(f"\nDataNode hung: {told(sink, place.settings.hdfs.root)}; {proved(place, sent)}")


@pytest.mark.parametrize("seconds", [0, 15], ids=["at once", "after 15 s"])
def test_a_broker_that_is_killed_and_comes_back(cluster: Cluster, seconds: int) -> None:
    place = busy(cluster)
    with load(place.settings, 2) as producing, supervised(place.settings) as sink:
        goes_on(place)
        os.kill(pid(cluster, "kafka"), signal.SIGKILL)
        if seconds:
            cluster.supervisor.stop("kafka")
            stands_still(place, seconds)
        cluster.up()
        goes_on(place)
        sent = producing.stop()
        landed(place, "all")
    print(f"\nbroker killed: {told(sink, 'Kafka', 'CLICKSTREAM_KAFKA')}; {proved(place, sent)}")


# The last one: for a minute HDFS takes DataNodes that have ended for alive, and gives new blocks to them.
def test_a_datanode_that_is_killed_in_the_midst_of_a_block_and_replaced_by_others(cluster: Cluster) -> None:
    with datanodes(cluster, 2) as others:
        settings = with_hdfs(cluster.settings, replication=2)
        place = corner(settings, codec="null", max_records=3_000, publish_timeout_seconds=10.0)
        ids: list[str | None] = [f"{n}-{'x' * 300}" for n in range(4_500)]
        produce(place.settings, 0, [event(str(id_)) for id_ in ids])
        in_block = Fault("write", r"/e=\d+/\w+/t", nth=3, signal=signal.SIGSTOP)
        with sink_process(place.settings, in_block) as writing:
            eventually(writing.stopped)
            [victim, *_] = [other for other in others if other.writes]  # of two copies at most one is elsewhere
            victim.process.kill()
            writing.signal(signal.SIGCONT)
            with supervised(place.settings) as sink:
                landed(place, "all", 300)  # each write is given the dead one by chance
            eventually(lambda: writing.process.poll() is not None)
            assert writing.process.poll() in FAILED, writing.tail()
        words = f"exit {writing.process.poll()} {writing.last_line()[:300]}, then {len(sink.lives)} lives"
        print(f"\nDataNode killed in a block and never back: {words}; {proved(place, {0: ids})}")
