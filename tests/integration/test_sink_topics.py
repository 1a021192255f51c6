"""Topics as they come: more of them, grown, deleted and created anew, and members with a name."""

from __future__ import annotations

import io

import fastavro
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic

from infra.settings import Settings
from storage.errors import LogError
from storage.layout import Layout
from tests.support.corners import produce
from tests.support.events import event
from tests.support.landing import landing
from tests.support.servers import RunningSink, running_sink
from tests.support.waiting import eventually


def admin(settings: Settings) -> AdminClient:
    return AdminClient({"bootstrap.servers": settings.kafka.address})


def test_a_topic_that_grows_under_way_is_landed_from_its_new_partitions_first_record(
    cluster_settings: Settings,
) -> None:
    corner = landing(cluster_settings, partitions=2)
    topic = corner.layout.topic
    produce(corner.settings, 0, [event("a")])
    with running_sink(corner.settings) as sink:
        corner.landed(corner.cut("two"), sink)
        client = admin(corner.settings)
        client.create_partitions([NewPartitions(topic, 4)])[topic].result(30)
        for partition in (2, 3):
            produce(corner.settings, partition, [event(f"new-{partition}")])
        balanced = corner.landed(corner.cut("four"), sink)
    assert [row.landed for row in balanced.partitions] == [0, 0, 1, 1]
    assert corner.messages(3) == [(0, "new-3")]


def test_a_topic_created_anew_with_more_in_it_is_refused_too(cluster_settings: Settings) -> None:
    corner = landing(cluster_settings)
    topic, client = corner.layout.topic, admin(corner.settings)
    produce(corner.settings, 0, [event("old")])
    with running_sink(corner.settings) as sink:
        corner.landed(corner.cut("one"), sink)
    client.delete_topics([topic])[topic].result(30)
    eventually(lambda: topic not in client.list_topics(timeout=10).topics)
    client.create_topics([NewTopic(topic, 1, 1)])[topic].result(30)
    produce(corner.settings, 0, [event(f"new-{n}") for n in range(10)])
    again = RunningSink(corner.settings)
    eventually(lambda: again.failure is not None)
    again.stop()
    assert isinstance(again.failure, LogError) and "created anew" in str(again.failure)
    assert corner.messages(0) == [(0, "old")]


def test_any_other_topic_is_landed_as_it_is(cluster_settings: Settings) -> None:
    corner = landing(cluster_settings)
    other = f"{corner.layout.topic}-other"
    client = admin(corner.settings)
    client.create_topics([NewTopic(other, 1, 1)])[other].result(30)
    settings = corner.settings.model_copy(
        update={"sink": corner.settings.sink.model_copy(update={"topics": (other,), "max_age_seconds": 0.2})}
    )
    produce(settings, 0, [b'{"a": 1}', b"\xff\x00 bytes", None], other, b"k")
    layout = Layout(settings.hdfs.root, other)
    with running_sink(settings) as sink:
        eventually(lambda: bool(corner.files(layout, 0)), worker=sink)
    rows = [row for file in corner.files(layout, 0) for row in fastavro.reader(io.BytesIO(corner.fs.read(file)))]
    assert [(row["offset"], row["key"], row["value"]) for row in rows] == [
        (0, b"k", b'{"a": 1}'),
        (1, b"k", b"\xff\x00 bytes"),
        (2, b"k", None),
    ]


def test_a_restart_of_a_member_with_a_name_moves_no_partition_of_the_others(cluster_settings: Settings) -> None:
    corner = landing(cluster_settings, partitions=4, max_age_seconds=0.2)

    def named(name: str) -> Settings:
        own = corner.settings.sink.model_copy(update={"instance": name})
        return corner.settings.model_copy(update={"sink": own})

    def shares(*sinks: RunningSink) -> list[float]:
        return [sink.value("partitions") for sink in sinks]

    with running_sink(named("stays")) as stays:
        with running_sink(named("restarts")) as restarts:
            # Two of the four, and the one of what was rejected.
            eventually(lambda: sum(shares(stays, restarts)) == 5 and min(shares(stays, restarts)) >= 2, worker=stays)
            before = stays.value("rebalances_total", what="revoked"), *shares(stays, restarts)
        with running_sink(named("restarts")) as again:
            eventually(lambda: shares(again) == [before[2]], worker=again)
            for partition in range(4):
                produce(corner.settings, partition, [event(f"{partition}")])
            corner.landed(corner.cut("one"), again)
            assert (stays.value("rebalances_total", what="revoked"), *shares(stays, again)) == before


def test_a_member_with_a_name_comes_back_to_its_partitions(cluster_settings: Settings) -> None:
    corner = landing(cluster_settings, instance="sink-1", max_age_seconds=0.2)
    for n in range(2):
        produce(corner.settings, 0, [event(str(n))])
        with running_sink(corner.settings) as sink:
            corner.landed(corner.cut(f"cut-{n}"), sink)
            client, group = admin(corner.settings), corner.settings.sink.group
            [member] = client.describe_consumer_groups([group])[group].result(30).members
            assert member.group_instance_id == "sink-1"
    assert corner.messages(0) == [(0, "0"), (1, "1")]
