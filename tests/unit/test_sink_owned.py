"""What a process owns: how it ends when HDFS does not answer, and who reads when memory is short. No servers."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from infra.rules import Sink
from ingest import codec
from storage.epochs import Epoch
from storage.errors import Hung
from storage.holdings import Holdings
from storage.layout import Layout
from storage.metrics import SinkMetrics
from storage.owned import Owned
from storage.partition import PartitionWriter, Records
from storage.rolling import Limits
from storage.schemas import Registry
from tests.fakes import FakeHdfs
from tests.integration.sandbox import event

LAYOUT = Layout("/root", "clicks")
VALUE = event("x" * 300)


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as pool:
        yield pool


def owned(fs: FakeHdfs, partition: int) -> Owned:
    registry = Registry()
    registry.add(codec.SCHEMA)
    limits = Limits(max_bytes=1 << 30, max_records=1 << 30, max_age_seconds=1e9)
    writer = PartitionWriter(LAYOUT, partition, 0, codec_="null", limits=limits, registry=registry)
    epoch = Epoch(fs, LAYOUT, partition, 1, f"{LAYOUT.epochs(partition)}/e=1/token")
    fs.mkdirs(epoch.path)
    return Owned(LAYOUT, epoch, writer, 0)


def read(one: Owned, count: int, at: int = 0) -> None:
    rows = [(one.writer.end + n, at + n, b"key", VALUE) for n in range(count)]
    one.writer.append(Records.of(rows), lambda offset: "kafka")
    one.read_until = at + count


def test_a_partition_that_is_lost_while_hdfs_hangs_ends_the_process_in_time(pool: ThreadPoolExecutor) -> None:
    fs, go_on = FakeHdfs(), threading.Event()
    one = owned(fs, 0)
    fs.before = lambda verb, path: None if verb != "create" else (go_on.wait(), None)[1]
    read(one, 1)
    one.writer.seal("age")
    one.pump(pool)
    try:
        with pytest.raises(Hung, match="has not been published"):
            one.discard(0.05)
    finally:
        go_on.set()


def holdings(pool: ThreadPoolExecutor, sizes: list[int]) -> Holdings:
    """Of so many events each; memory has room for ten, a file's size is four of them."""
    size = len(VALUE)
    settings = Sink(memory_bytes=10 * size, max_bytes=4 * size)
    held = Holdings(settings, pool, SinkMetrics(), lambda topic: None, lambda ends, wait: None)
    fs = FakeHdfs()
    for partition, count in enumerate(sizes):
        held.take(("clicks", partition), owned(fs, partition))
        read(held["clicks", partition], count, at=-partition)
    return held


def numbers(held: Holdings) -> set[int]:
    return {number for _, number in held.crowded()}


def test_all_read_while_each_gets_its_size(pool: ThreadPoolExecutor) -> None:
    held = holdings(pool, [3, 3, 3])
    held.pump()
    assert numbers(held) == set()


def test_when_memory_closed_a_small_file_the_fullest_go_on_and_the_others_wait(pool: ThreadPoolExecutor) -> None:
    held = holdings(pool, [1] * 11)
    while not numbers(held):
        held.pump()
    # One was closed; of the others, equally full, those that are furthest behind go on.
    going_on = set(range(11)) - numbers(held)
    assert 10 in going_on and len(numbers(held)) >= 9
    held["clicks", 10].at_end = True  # nothing more comes of it, so it keeps nobody waiting
    assert 9 not in numbers(held) and 10 not in numbers(held)
    for one in list(held.values())[1:]:
        one.writer.seal("age")
    while any(not one.idle for one in held.values()):
        held.pump()
    assert numbers(held) == set()


def test_an_error_ends_the_process_though_a_thread_waits_for_ever() -> None:
    code = """
import threading, time
from concurrent.futures import ThreadPoolExecutor
from storage.commands import end_at_once
from storage.errors import StorageError
ThreadPoolExecutor(1).submit(threading.Event().wait)
end_at_once(StorageError("/p=0", "a DataNode is dead"))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (2, "clickstream: HDFS: /p=0: a DataNode is dead\n")
