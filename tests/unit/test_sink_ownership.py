"""An owned partition: its states, how it ends if HDFS hangs, and who reads when memory is short. No servers."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from infra.settings.jobs import Sink
from ingest.event import codec
from storage.errors import Hung
from storage.formats import FORMATS
from storage.formats.schemas import SchemaRegistry
from storage.layout import Layout
from storage.sink.assignment import Assignment
from storage.sink.epochs import Epoch
from storage.sink.metrics import SinkMetrics
from storage.sink.ownership import OwnedPartition, Partition, State
from storage.sink.rolling import Limits
from storage.sink.writer import PartitionWriter, Records
from tests.fakes import FakeHdfs
from tests.support.events import event
from tests.support.landing import NEWER, newer_event

LAYOUT = Layout("/root", "clicks")
VALUE = event("x" * 300)


class FakeFetcher:
    """The consumer as a partition sees it; `asked` is what was asked of it, in order."""

    def __init__(self, low: int = 0) -> None:
        self.low = low
        self.asked: list[object] = []

    def pause(self, partition: Partition) -> None:
        self.asked.append("pause")

    def resume(self, partition: Partition) -> None:
        self.asked.append("resume")

    def seek(self, partition: Partition, offset: int) -> None:
        self.asked.append(offset)

    def low_watermark(self, partition: Partition) -> int:
        return self.low


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as pool:
        yield pool


def owned(
    fs: FakeHdfs, partition: int, fetcher: FakeFetcher | None = None, schemas: SchemaRegistry | None = None
) -> OwnedPartition:
    registry = SchemaRegistry() if schemas is None else schemas
    registry.add(codec.SCHEMA)
    limits = Limits(max_bytes=1 << 30, max_records=1 << 30, max_age_seconds=1e9)
    writer = PartitionWriter(
        LAYOUT, partition, 0, format_=FORMATS["avro"], codec_="null", limits=limits, registry=registry
    )
    epoch = Epoch(fs, LAYOUT, partition, 1, f"{LAYOUT.epochs(partition)}/e=1/token")
    fs.mkdirs(epoch.path)
    return OwnedPartition(LAYOUT, epoch, writer, 0, fetcher or FakeFetcher(), registry, lambda: None)


def read(one: OwnedPartition, count: int, at: int = 0) -> None:
    rows = [(one.writer.end + n, at + n, b"key", VALUE) for n in range(count)]
    one.writer.append(Records.of(rows), lambda offset: "kafka")
    one.read_until = at + count


def test_a_partition_that_is_lost_while_hdfs_hangs_ends_the_process_in_time(pool: ThreadPoolExecutor) -> None:
    fs, go_on = FakeHdfs(), threading.Event()
    one = owned(fs, 0)
    fs.before = lambda verb, path: None if verb != "create" else (go_on.wait(), None)[1]
    read(one, 1)
    one.writer.seal("age")
    one.publish(pool)
    try:
        with pytest.raises(Hung, match="has not been published"):
            one.discard(0.05)
    finally:
        go_on.set()


def assignment(pool: ThreadPoolExecutor, sizes: list[int]) -> Assignment:
    """Of so many events each; memory has room for ten, a file's size is four of them."""
    size = len(VALUE)
    settings = Sink(memory_bytes=10 * size, max_bytes=4 * size)
    ours = Assignment(settings, pool, SinkMetrics(), lambda topic: None, lambda ends, wait: None)
    fs = FakeHdfs()
    for partition, count in enumerate(sizes):
        ours.add(owned(fs, partition))
        read(ours["clicks", partition], count, at=-partition)
    return ours


def numbers(ours: Assignment) -> set[int]:
    return {number for _, number in ours.to_pause()}


def test_all_read_while_each_gets_its_size(pool: ThreadPoolExecutor) -> None:
    ours = assignment(pool, [3, 3, 3])
    ours.publish()
    assert numbers(ours) == set()


def test_when_memory_closed_a_small_file_the_fullest_go_on_and_the_others_wait(pool: ThreadPoolExecutor) -> None:
    ours = assignment(pool, [1] * 11)
    while not numbers(ours):
        ours.publish()
    # One was closed; of the others, equally full, those that are furthest behind go on.
    going_on = set(range(11)) - numbers(ours)
    assert 10 in going_on and len(numbers(ours)) >= 9
    ours["clicks", 10].at_end = True  # nothing more comes of it, so it keeps nobody waiting
    assert 9 not in numbers(ours) and 10 not in numbers(ours)
    for one in list(ours.values())[1:]:
        one.writer.seal("age")
    while any(not one.idle for one in ours.values()):
        ours.publish()
    assert numbers(ours) == set()


def records(first: int, *values: bytes) -> Records:
    return Records.of((first + n, 1_000 + first + n, b"key", value) for n, value in enumerate(values))


def test_a_record_of_an_unknown_schema_makes_its_partition_wait_until_the_schema_comes() -> None:
    fetcher, schemas = FakeFetcher(), SchemaRegistry()
    one = owned(FakeHdfs(), 0, fetcher, schemas)
    assert one.take(records(0, VALUE, newer_event("a"), VALUE))
    assert (one.state, one.writer.end, fetcher.asked) == (State.WAITING_FOR_SCHEMA, 1, ["pause"])
    assert one.take(records(3, VALUE))  # was on its way when Kafka was asked to pause
    assert one.reach(6)
    one.retry_schemas(now=0.0, deadline_seconds=1e9)
    assert (one.state, one.writer.end) == (State.WAITING_FOR_SCHEMA, 1)
    schemas.add(NEWER)
    one.retry_schemas(now=0.0, deadline_seconds=1e9)
    # What was heard meanwhile is believed only after Kafka was asked again: the client may have dropped records.
    assert (one.state, one.writer.end, fetcher.asked) == (State.READING, 4, ["pause", "resume", 4])
    assert one.reach(6)
    assert one.writer.end == 6


def test_a_schema_that_does_not_come_in_time_is_not_waited_for_again() -> None:
    fetcher = FakeFetcher()
    one = owned(FakeHdfs(), 0, fetcher)
    one.take(records(0, newer_event("a"), VALUE))
    one.retry_schemas(now=1e12, deadline_seconds=60.0)
    assert (one.state, one.writer.end, fetcher.asked) == (State.READING, 2, ["pause", "resume"])
    one.take(records(2, newer_event("b"), VALUE))
    assert (one.state, one.writer.end, fetcher.asked) == (State.READING, 4, ["pause", "resume"])
    one.writer.seal("age")
    assert [sealed.info.quarantined for sealed in one.writer.sealed] == [((0, 0), (2, 2))]


def test_a_partition_reads_again_when_no_reason_to_pause_is_left() -> None:
    fetcher, schemas = FakeFetcher(), SchemaRegistry()
    one = owned(FakeHdfs(), 0, fetcher, schemas)
    one.pause_for_memory(True)
    one.pause_for_memory(True)
    assert (one.state, fetcher.asked) == (State.PAUSED_FOR_MEMORY, ["pause"])
    one.take(records(0, newer_event("a")))
    assert one.state is State.WAITING_FOR_SCHEMA
    schemas.add(NEWER)
    one.retry_schemas(now=0.0, deadline_seconds=1e9)
    assert (one.state, fetcher.asked) == (State.PAUSED_FOR_MEMORY, ["pause", "pause"])
    one.pause_for_memory(False)
    assert (one.state, fetcher.asked) == (State.READING, ["pause", "pause", "resume"])


def test_kafka_is_asked_once_more_before_a_hole_after_an_assignment_is_a_gap() -> None:
    fetcher = FakeFetcher(low=4)
    one = owned(FakeHdfs(), 0, fetcher)
    assert not one.take(records(2, VALUE))
    assert (one.writer.end, fetcher.asked) == (0, [0])
    assert one.take(records(2, VALUE))
    assert one.reach(5)
    one.writer.seal("age")
    assert [sealed.info.gaps for sealed in one.writer.sealed] == [((0, 1, "lost"), (3, 4, "lost"))]


def test_an_error_ends_the_process_though_a_thread_waits_for_ever() -> None:
    code = """
import threading, time
from concurrent.futures import ThreadPoolExecutor
from storage.cli.sink import end_at_once
from storage.errors import StorageError
ThreadPoolExecutor(1).submit(threading.Event().wait)
end_at_once(StorageError("/p=0", "a DataNode is dead"))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (2, "clickstream: HDFS: /p=0: a DataNode is dead\n")
