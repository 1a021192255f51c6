"""Records and topics that no sink hopes for: poison, a topic that grows, one that is not the one it was."""

from __future__ import annotations

import os

import pytest
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic

from infra.settings import Settings
from ingest.event import codec
from tests.support.corners import produce
from tests.support.events import event
from tests.support.proof import audited, proved
from tests.support.sinks import corner, landed, load, sink_process
from tests.support.waiting import eventually

POISON: dict[str, bytes | None] = {
    "garbage": os.urandom(100),
    "empty": b"",
    "null": None,
    "huge": os.urandom(900_000),
    "marker alone": codec.MARKER,
    "no body": codec.MARKER + codec.FINGERPRINT[:7],
    "unknown fingerprint": codec.MARKER + b"unknown!" + b"body",
}


def test_poison_is_set_aside_and_its_neighbours_are_landed(cluster_settings: Settings) -> None:
    place = corner(cluster_settings, schema_deadline_seconds=1.0)
    values: list[bytes | None] = [event("first")]
    ids: list[str | None] = ["first"]
    for name, poison in POISON.items():
        values += [poison, event(f"after {name}")]
        ids += [None, f"after {name}"]
    values.append(event("x" * 900_000))
    ids.append("x" * 900_000)
    produce(place.settings, 0, values)
    with sink_process(place.settings) as sink:
        landed(place, "all", worker=sink)
        sink.stop()
    print(f"\n{len(POISON)} kinds of poison: {proved(place, {0: ids})}")
    aside = place.rows(place.layout, 0, place.layout.quarantine(0))
    assert [row["value"] for row in aside] == list(POISON.values())


@pytest.mark.parametrize("cut", [10, -1])
def test_a_truncated_body_under_a_right_fingerprint_is_set_aside(cluster_settings: Settings, cut: int) -> None:
    place = corner(cluster_settings, check_bodies=True)
    produce(place.settings, 0, [event("a"), event("b")[:cut], event("c")])
    with sink_process(place.settings) as sink:
        landed(place, "all", worker=sink)
        sink.stop()
    proved(place, {0: ["a", None, "c"]})


def test_a_topic_that_grows_under_load_is_landed_in_all_its_partitions_from_0_on(cluster_settings: Settings) -> None:
    place = corner(cluster_settings, partitions=4, max_age_seconds=1.0)
    admin = AdminClient({"bootstrap.servers": place.settings.kafka.address})
    with sink_process(place.settings) as sink, load(place.settings, 4) as before:
        eventually(lambda: len(place.files(place.layout, 3)) > 1, worker=sink)
        topic = place.layout.topic
        admin.create_partitions([NewPartitions(topic, 8)])[topic].result(30)
        eventually(lambda: len(admin.list_topics(topic, timeout=10).topics[topic].partitions) == 8)
        sent = before.stop()
        with load(place.settings, 8) as after:
            eventually(lambda: bool(place.files(place.layout, 7)), worker=sink)
            grown = after.stop()
        landed(place, "all", worker=sink)
        sink.stop()
    ids = {partition: [*sent.get(partition, []), *grown[partition]] for partition in range(8)}
    print(f"\ngrown from 4 to 8: {proved(place, ids)}")


@pytest.mark.parametrize("records", [0, 5, 40], ids=["empty", "fewer", "more"])
def test_a_topic_that_was_deleted_and_created_anew_is_refused_and_what_is_landed_stays(
    cluster_settings: Settings, records: int
) -> None:
    place = corner(cluster_settings)
    ids: list[str | None] = [str(n) for n in range(20)]
    produce(place.settings, 0, [event(str(n)) for n in range(20)])
    with sink_process(place.settings) as sink:
        landed(place, "all", worker=sink)
        sink.stop()
    topic = place.layout.topic
    admin = AdminClient({"bootstrap.servers": place.settings.kafka.address})
    admin.delete_topics([topic])[topic].result(30)
    eventually(lambda: topic not in admin.list_topics(timeout=10).topics)
    admin.create_topics([NewTopic(topic, 1, 1)])[topic].result(30)
    eventually(lambda: topic in admin.list_topics(timeout=10).topics)
    produce(place.settings, 0, [event(f"other {n}") for n in range(records)])
    with sink_process(place.settings) as sink:
        assert sink.ended() == 2, sink.tail()
        message = sink.last_line()
    assert message.startswith(f"clickstream: {topic} was deleted and created anew"), message
    assert place.settings.hdfs.root in message
    audited(place, 1)
    print(f"\ncreated anew with {records} records: {message[:150]}…: {proved(place, {0: ids})}")


def test_a_topic_that_is_deleted_and_created_anew_under_a_running_sink_is_not_mixed_with_the_old_one(
    cluster_settings: Settings,
) -> None:
    place = corner(cluster_settings, max_age_seconds=0.5)
    ids: list[str | None] = [str(n) for n in range(20)]
    produce(place.settings, 0, [event(str(n)) for n in range(20)])
    topic = place.layout.topic
    admin = AdminClient({"bootstrap.servers": place.settings.kafka.address})
    with sink_process(place.settings) as sink:
        landed(place, "all", worker=sink)
        admin.delete_topics([topic])[topic].result(30)
        eventually(lambda: topic not in admin.list_topics(timeout=10).topics)
        admin.create_topics([NewTopic(topic, 1, 1)])[topic].result(30)
        eventually(lambda: topic in admin.list_topics(timeout=10).topics)
        produce(place.settings, 0, [event(f"other {n}") for n in range(40)])
        code = sink.ended()
        message = sink.last_line()
    print(f"\ncreated anew under way: exit {code}: {message[:200]}: {proved(place, {0: ids})}")
    assert code == 2 and topic in message
