"""From a real Kafka to a real HDFS: everything once, whatever is in the log or was taken from it."""

from __future__ import annotations

import os
import time

import pytest
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from infra.settings import Settings
from ingest.event import codec
from storage.audit.topic import audit
from storage.batches import ledger
from storage.errors import LogError
from storage.formats.headers import read_info
from storage.landed import position
from storage.layout import Layout
from tests.support.corners import produce, produce_transaction, publish_schema
from tests.support.events import event
from tests.support.landing import NEWER, holding, landing, newer_event
from tests.support.servers import RunningSink, running_sink
from tests.support.waiting import eventually


def test_a_cut_brings_everything_before_it_once_and_balances(cluster_settings: Settings) -> None:
    corner = landing(cluster_settings, partitions=2)
    produce(corner.settings, 0, [event(f"a{n}") for n in range(500)])
    produce(corner.settings, 1, [event(f"b{n}") for n in range(300)])
    with running_sink(corner.settings) as sink:
        one = corner.landed(corner.cut("one"), sink)
        assert (one.appended, one.total("landed"), one.total("files")) == (800, 800, 2)
        produce(corner.settings, 0, [event(f"c{n}") for n in range(50)])
        two = corner.landed(corner.cut("two"), sink)
        assert (two.appended, two.total("landed"), two.total("files")) == (50, 50, 1)
        labels = {"topic": corner.layout.topic}
        eventually(lambda: sink.value("offsets_total", **labels, outcome="landed") == 850, worker=sink)
        assert sink.value("files_total", **labels, reason="cut") == 3
        eventually(lambda: sink.value("lag_records", **labels, partition="0") == 0, worker=sink)
    assert corner.messages(0) == [(n, f"a{n}") for n in range(500)] + [(500 + n, f"c{n}") for n in range(50)]
    assert corner.messages(1) == [(n, f"b{n}") for n in range(300)]
    assert {row["appended_at"].tzname() for row in corner.rows(corner.layout, 0)} == {"UTC"}


def test_rejected_records_are_landed_as_they_are(cluster_settings: Settings) -> None:
    corner = landing(cluster_settings)
    payloads = [b'{"reason": "bad"}', b"not even JSON", None]
    produce(corner.settings, 0, payloads, corner.settings.kafka.rejected_topic)
    with running_sink(corner.settings) as sink:
        holding(sink)
    assert [row["value"] for row in corner.rows(corner.rejected, 0)] == payloads


def test_what_is_no_event_is_quarantined_and_counted(cluster_settings: Settings) -> None:
    corner = landing(cluster_settings)
    produce(corner.settings, 0, [event("a"), b"{}", None, event("b")])
    with running_sink(corner.settings) as sink:
        found = corner.landed(corner.cut("one"), sink)
    assert (found.appended, found.total("landed"), found.total("quarantined")) == (4, 2, 2)
    assert corner.messages(0) == [(0, "a"), (3, "b")]
    aside = corner.rows(corner.layout, 0, corner.layout.quarantine(0))
    assert [(row["offset"], row["value"]) for row in aside] == [(1, b"{}"), (2, None)]


def test_transaction_markers_are_explained_even_when_nothing_follows_them(cluster_settings: Settings) -> None:
    corner = landing(cluster_settings)
    produce_transaction(corner.settings, 0, [event("a"), event("b")])
    produce(corner.settings, 0, [event("c")])
    produce_transaction(corner.settings, 0, [event("never")], commit=False)
    produce_transaction(corner.settings, 0, [event("d")])
    cut = corner.cut("one")
    assert cut.ends == {0: 8}  # five records, three markers; one of the records was never committed
    with running_sink(corner.settings) as sink:
        found = corner.landed(cut, sink)
        produce_transaction(corner.settings, 0, [], commit=True)
    assert (found.total("landed"), found.total("explained"), found.total("lost"), found.appended) == (4, 4, 0, 4)
    assert corner.messages(0) == [(0, "a"), (1, "b"), (3, "c"), (6, "d")]


@pytest.mark.parametrize("landed_before", [0, 10])
def test_what_retention_took_before_we_read_it_is_lost_loudly_and_exactly(
    cluster_settings: Settings, landed_before: int
) -> None:
    corner = landing(cluster_settings)
    produce(corner.settings, 0, [event(str(n)) for n in range(landed_before)])
    if landed_before:
        with running_sink(corner.settings) as sink:
            corner.landed(corner.cut("before"), sink)
    produce(corner.settings, 0, [event(str(n)) for n in range(landed_before, 40)])
    corner.forget_before(30)
    with running_sink(corner.settings) as sink:
        found = corner.landed(corner.cut("after"), sink)
        labels = {"topic": corner.layout.topic, "outcome": "lost"}
        eventually(lambda: sink.value("offsets_total", **labels) == 30 - landed_before, worker=sink)
    assert (found.total("lost"), found.total("landed"), found.total("explained")) == (30 - landed_before, 10, 0)
    assert found.appended == 40 - landed_before
    assert corner.messages(0) == [(n, str(n)) for n in [*range(landed_before), *range(30, 40)]]


def test_what_retention_took_from_under_a_running_sink_is_lost_exactly_and_nothing_that_was_read(
    cluster_settings: Settings,
) -> None:
    corner = landing(cluster_settings, schema_deadline_seconds=120.0)
    produce(corner.settings, 0, [event("0"), newer_event("1")])
    first = corner.cut("first")
    with running_sink(corner.settings) as sink:
        eventually(lambda: ledger.current(corner.fs, corner.layout, first).missing == {0: 2}, worker=sink)
        holding(sink)
        time.sleep(1)  # it waits for the schema, with its reading paused
        produce(corner.settings, 0, [event(str(n)) for n in range(2, 12)])
        corner.forget_before(7)
        publish_schema(corner.settings, NEWER)
        found = corner.landed(corner.cut("second"), sink)
        assert sink.value("rejoins_total") == 1
    assert corner.messages(0) == [(n, str(n)) for n in [0, 1, *range(7, 12)]]
    assert (found.total("landed"), found.total("lost")) == (5, 5)


def test_files_that_reach_beyond_kafkas_log_stop_the_sink_loudly(cluster_settings: Settings) -> None:
    corner = landing(cluster_settings)
    produce(corner.settings, 0, [event("a")])
    path = f"{corner.layout.raw(0)}/{corner.layout.file(0, 0, 99, 'avro')}"
    corner.fs.create(path, [b""], create_parents=True)
    sink = RunningSink(corner.settings)
    eventually(lambda: sink.failure is not None)
    sink.stop()
    with pytest.raises(LogError, match=r"p=0: files reach up to offset 100, but Kafka's log ends at 1"):
        raise sink.failure or AssertionError


def test_a_newer_schema_is_followed_and_older_records_move_up(cluster_settings: Settings) -> None:
    corner = landing(cluster_settings)
    publish_schema(corner.settings, NEWER)
    produce(corner.settings, 0, [event("a"), newer_event("b"), event("c")])
    with running_sink(corner.settings) as sink:
        corner.landed(corner.cut("one"), sink)
    files = [read_info(corner.fs, path) for path in corner.files(corner.layout, 0)]
    assert [(info.first, info.last) for info in files] == [(0, 0), (1, 2)]
    assert files[1].fingerprint == codec.schema_fingerprint(NEWER).hex()
    rows = corner.rows(corner.layout, 0)
    assert [(row["event"]["message_id"], row["event"].get("added")) for row in rows] == [
        ("a", None),
        ("b", "new"),
        ("c", None),
    ]


def test_an_unknown_schema_waits_until_it_is_published(cluster_settings: Settings) -> None:
    corner = landing(cluster_settings, partitions=2, schema_deadline_seconds=120.0)
    produce(corner.settings, 0, [event("a"), newer_event("b"), event("c")])
    produce(corner.settings, 1, [event("d")])
    cut = corner.cut("one")
    with running_sink(corner.settings) as sink:
        eventually(lambda: ledger.current(corner.fs, corner.layout, cut).missing == {0: 3}, worker=sink)
        produce(corner.settings, 0, [newer_event("e")])
        publish_schema(corner.settings, NEWER)
        corner.landed(cut, sink)
        found = corner.landed(corner.cut("two"), sink)
        assert (found.total("landed"), found.total("quarantined")) == (1, 0)
    assert corner.messages(0) == [(0, "a"), (1, "b"), (2, "c"), (3, "e")]


def test_an_unknown_schema_is_quarantined_after_its_deadline_and_known_when_its_next_record_comes(
    cluster_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    corner = landing(cluster_settings, schema_deadline_seconds=0.5)
    produce(corner.settings, 0, [event("a"), newer_event("b"), event("c"), newer_event("d")])
    with running_sink(corner.settings) as sink:
        found = corner.landed(corner.cut("one"), sink)
        produce(corner.settings, 0, [event("e")])
        corner.landed(corner.cut("two"), sink)
        monkeypatch.setattr("storage.sink.member._SCHEMA_POLL_SECONDS", 3600.0)  # not by chance
        time.sleep(1)
        publish_schema(corner.settings, NEWER)
        produce(corner.settings, 0, [newer_event("f")])
        corner.landed(corner.cut("three"), sink)
    assert (found.total("landed"), found.total("quarantined")) == (2, 2)
    assert corner.messages(0) == [(0, "a"), (2, "c"), (4, "e"), (5, "f")]
    aside = corner.rows(corner.layout, 0, corner.layout.quarantine(0))
    assert [(row["offset"], row["value"]) for row in aside] == [(1, newer_event("b")), (3, newer_event("d"))]


def test_many_unknown_schemas_at_once_wait_for_one_deadline(cluster_settings: Settings) -> None:
    corner = landing(cluster_settings, schema_deadline_seconds=4.0)
    garbled = [codec.MARKER + bytes([n]) * 8 + b"?" for n in range(20)]
    produce(corner.settings, 0, [value for n, other in enumerate(garbled) for value in (event(str(n)), other)])
    with running_sink(corner.settings) as sink:
        found = corner.landed(corner.cut("one"), sink, 40)  # and not twenty times four seconds
    assert (found.total("landed"), found.total("quarantined")) == (20, 20)


def test_a_backlog_of_many_partitions_makes_large_files_within_the_memory(cluster_settings: Settings) -> None:
    partitions, size = 16, 900_000  # which two thousand events have
    corner = landing(cluster_settings, partitions, codec="null", max_bytes=size, memory_bytes=4 * size)
    for partition in range(partitions):
        produce(corner.settings, partition, [event(os.urandom(200).hex()) for _ in range(6_000)])
    cut = corner.cut("one")
    peaks = []

    def landed() -> bool:
        peaks.append(sink.value("open_bytes"))
        return ledger.current(corner.fs, corner.layout, cut).landed_complete

    with running_sink(corner.settings) as sink:
        eventually(landed, 120, worker=sink)
    assert max(peaks) < 4 * size + 1_000 * 600  # what one poll brings may come on top
    whys = {why: sink.value("files_total", topic=corner.layout.topic, reason=why) for why in ("bytes", "memory", "cut")}
    assert whys["bytes"] >= 2 * partitions and whys["memory"] <= partitions / 4, whys


def test_what_compaction_took_is_explained(cluster_settings: Settings) -> None:
    corner = landing(cluster_settings)
    topic = f"{corner.layout.topic}-compacted"
    client = AdminClient({"bootstrap.servers": corner.settings.kafka.address})
    config = {"cleanup.policy": "compact", "segment.ms": "50", "min.cleanable.dirty.ratio": "0.001"}
    client.create_topics([NewTopic(topic, 1, 1, config=config)])[topic].result(30)
    for n in range(30):
        produce(corner.settings, 0, [b"%d" % n], topic, b"same key")
        time.sleep(0.06)
    reader = Consumer({"bootstrap.servers": corner.settings.kafka.address, "group.id": topic})

    def left() -> int:
        reader.assign([TopicPartition(topic, 0, 0)])
        return sum(not message.error() for message in reader.consume(100, 2))

    eventually(lambda: left() < 30, 90)
    reader.close()
    own = corner.settings.sink.model_copy(update={"topics": (topic,), "max_age_seconds": 0.2})
    with running_sink(corner.settings.model_copy(update={"sink": own})) as sink:
        eventually(lambda: sink.value("offsets_total", topic=topic, outcome="explained") > 0, worker=sink)
        layout = Layout(corner.settings.hdfs.root, topic)
        eventually(lambda: position(corner.fs, layout, 0) == 30, worker=sink)
        assert sink.value("offsets_total", topic=topic, outcome="lost") == 0
    totals = audit(corner.fs, layout).partitions[0]
    assert totals.explained > 0 and totals.landed + totals.explained == 30


def test_memory_is_bounded_by_closing_the_largest(cluster_settings: Settings) -> None:
    corner = landing(cluster_settings, partitions=2, memory_bytes=50_000)
    produce(corner.settings, 0, [event(os.urandom(200).hex()) for _ in range(2_000)])
    with running_sink(corner.settings) as sink:
        eventually(lambda: sink.value("files_total", topic=corner.layout.topic, reason="memory") >= 1, worker=sink)
        corner.landed(corner.cut("one"), sink)


def test_a_topic_created_anew_with_less_in_it_is_no_silent_reset(cluster_settings: Settings) -> None:
    corner = landing(cluster_settings)
    produce(corner.settings, 0, [event(str(n)) for n in range(10)])
    with running_sink(corner.settings) as sink:
        corner.landed(corner.cut("one"), sink)
    admin = AdminClient({"bootstrap.servers": corner.settings.kafka.address})
    admin.delete_topics([corner.layout.topic])[corner.layout.topic].result(30)
    eventually(lambda: corner.layout.topic not in admin.list_topics(timeout=10).topics)
    admin.create_topics([NewTopic(corner.layout.topic, 1, 1)])[corner.layout.topic].result(30)
    produce(corner.settings, 0, [event("other")])
    sink = RunningSink(corner.settings)
    eventually(lambda: sink.failure is not None)
    sink.stop()
    assert isinstance(sink.failure, LogError)
    assert len(corner.messages(0)) == 10
