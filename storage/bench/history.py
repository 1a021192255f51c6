"""What proof costs where history is long: so many batches of small files, made up, and each command timed on them.

The files are the sink's own, of one record each, which is in Kafka too, so that a sink can go on behind them.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from infra.errors import ServiceError
from infra.settings import Settings
from infra.topics import temporary_topics
from ingest import codec
from storage import batches
from storage.batches import Cut
from storage.bench.contestants import environment, published, sink_program
from storage.bench.load import events, produce_evenly
from storage.bench.measure import Cost, Program, first_line, logs_of, measure
from storage.bench.place import folder_of, own_settings
from storage.hdfs import Hdfs
from storage.layout import Layout
from storage.partition import PartitionWriter, Records
from storage.rolling import Limits
from storage.schemas import Registry

_BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
_WRITERS = 192  # closing a small file takes HDFS some tenths of a second, in which nobody works
_PATIENCE_SECONDS = 600
_ONE_EACH = Limits(max_bytes=1 << 30, max_records=1, max_age_seconds=1e9)
Step = Callable[[str], None]


def run(settings: Settings, count: int, partitions: int, progress: Step) -> dict[str, Any]:
    """The facts of `count` batches with a file in each partition. Raises ServiceError where a command fails."""
    with tempfile.TemporaryDirectory() as home:
        own = own_settings(settings, Path(home), partitions)
        with temporary_topics(own), folder_of(own):
            progress("producing events")
            values = [codec.encode(made) for made in events(count + 1)]
            produce_evenly(own, values)
            fs, layout = Hdfs(own), Layout(own.hdfs.root, own.kafka.topic)
            _land(fs, layout, values[:count], partitions, progress)
            cuts = _cut(fs, layout, count, partitions, progress)
            results = {}
            for name, cost in _costs(own, layout, cuts[-1].name):
                progress(name)
                found = cost()
                results[name] = {
                    "seconds": round(found.seconds, 2),
                    "cpu_seconds": round(found.cpu_seconds, 2),
                    "peak_mb": round(found.peak_bytes / 1e6),
                }
    return {
        "batches": count,
        "partitions": partitions,
        "files": count * partitions,
        "cores": os.cpu_count(),
        "results": results,
    }


def _costs(own: Settings, layout: Layout, newest: str) -> Iterator[tuple[str, Callable[[], Cost]]]:
    """What is measured, in this order: the title, and how. What one has counted the next one finds."""

    def command(*words: str) -> Callable[[], Cost]:
        program = Program([sys.executable, "-m", "infra.cli", *words, "--json"], environment(own), ends=True)
        return lambda: measure("-".join(words), [program], own.home, first_line)[0]

    yield "sink, until it has landed a record", lambda: _restart(own, layout)
    yield "ledger of a batch", command("ledger", "--batch", newest)
    yield "ledger of a batch, counted before", command("ledger", "--batch", newest)
    yield "audit, all headers read", command("audit", "--fresh")
    yield "audit", command("audit")
    yield "ledger of all batches", command("ledger", "--all")
    yield "ledger rebuild", command("ledger", "rebuild")


def _restart(own: Settings, layout: Layout) -> Cost:
    """A sink that closes a file after each record, until the first is published."""
    settings = own.model_copy(update={"sink": own.sink.model_copy(update={"max_records": 1})})
    (log,) = logs_of("sink", own.home, 1)

    def landed(running: Sequence[Any]) -> None:
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while not published(log.read_text(), layout.topic):
            if time.monotonic() > deadline:
                raise ServiceError("sink", f"has landed nothing within {_PATIENCE_SECONDS} s")
            if any(process.poll() is not None for process in running):
                return  # measure says why
            time.sleep(0.02)

    return measure("sink", [sink_program(settings)], own.home, landed)[0]


def _land(fs: Hdfs, layout: Layout, values: Sequence[bytes], partitions: int, progress: Step) -> None:
    """Gives each value a file of its own, in each partition."""

    def create(file: tuple[str, Sequence[bytes]]) -> None:
        path, chunks = file
        fs.create(path, chunks, create_parents=True)

    with ThreadPoolExecutor(_WRITERS) as pool:
        for partition in range(partitions):
            progress(f"landing {len(values) * partitions:,} files: partition {partition + 1} of {partitions}")
            for _ in pool.map(create, _files(layout, partition, values)):
                pass


def _files(layout: Layout, partition: int, values: Sequence[bytes]) -> Iterator[tuple[str, Sequence[bytes]]]:
    """Path and content of each."""
    registry = Registry()
    registry.add(codec.SCHEMA)
    writer = PartitionWriter(layout, partition, 0, codec_="zstandard", limits=_ONE_EACH, registry=registry)
    for offset, value in enumerate(values):
        writer.append(Records.of([(offset, _millis(offset), None, value)]), lambda _: "kafka")
        sealed = writer.sealed.popleft()
        yield f"{layout.raw(partition)}/{sealed.name}", list(sealed.chunks)


def _cut(fs: Hdfs, layout: Layout, count: int, partitions: int, progress: Step) -> list[Cut]:
    """One behind each record, an hour apart."""
    cuts = [
        Cut(
            name=f"hour-{number:06d}",
            number=number,
            topic=layout.topic,
            taken_at=(_BEGAN + timedelta(hours=number)).isoformat(timespec="milliseconds"),
            starts=dict.fromkeys(range(partitions), number - 1),
            ends=dict.fromkeys(range(partitions), number),
        )
        for number in range(1, count + 1)
    ]
    progress(f"writing {count:,} cuts")

    def write(cut: Cut) -> None:
        for path in (batches.link_path(layout, cut.number), batches.name_path(layout, cut.name)):
            fs.create(path, [cut.to_json()], create_parents=True)

    with ThreadPoolExecutor(_WRITERS) as pool:
        list(pool.map(write, cuts))
    return cuts


def _millis(offset: int) -> int:
    return int((_BEGAN + timedelta(hours=offset)).timestamp() * 1000)
