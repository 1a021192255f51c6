"""Measures ledger, audit and rebuild on a long history: many batches of small files, which are generated.

The files are the sink's own, of one record each. The records are in Kafka, too, so that a sink can go on after them.
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
from ingest.event import codec
from storage.batches import cuts
from storage.batches.cuts import Cut
from storage.bench.contestants import environment, published, sink_program
from storage.bench.load import events, produce_evenly
from storage.bench.measure import Cost, Program, first_line, logs_of, measure
from storage.bench.scratch import folder_of, own_settings
from storage.formats import FORMATS
from storage.formats.format import Format
from storage.formats.schemas import SchemaRegistry
from storage.hdfs import Hdfs
from storage.layout import Layout
from storage.sink.rolling import Limits
from storage.sink.writer import PartitionWriter, Records

_BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
_WRITERS = 192  # threads: HDFS takes some tenths of a second to close a small file
_PATIENCE_SECONDS = 600
_ONE_EACH = Limits(max_bytes=1 << 30, max_records=1, max_age_seconds=1e9)
Step = Callable[[str], None]


def run(settings: Settings, count: int, partitions: int, progress: Step) -> dict[str, Any]:
    """Facts of `count` batches with a file in each partition. Raises ServiceError if a command fails."""
    with tempfile.TemporaryDirectory() as home:
        own = own_settings(settings, Path(home), partitions)
        with temporary_topics(own), folder_of(own):
            progress("producing events")
            values = [codec.encode(made) for made in events(count + 1)]
            produce_evenly(own, values)
            fs, layout = Hdfs(own), Layout(own.hdfs.root, own.kafka.topic)
            _land(fs, layout, FORMATS[own.sink.format], values[:count], partitions, progress)
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
    """(title, measurement) in order: what one command stores the next one finds."""

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
    """Cost of a sink that closes a file after each record, until the first one is published."""
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


def _land(fs: Hdfs, layout: Layout, format_: Format, values: Sequence[bytes], partitions: int, progress: Step) -> None:
    """Writes each value into a file of its own, in each partition."""

    def create(file: tuple[str, Sequence[bytes]]) -> None:
        path, chunks = file
        fs.create(path, chunks, create_parents=True)

    with ThreadPoolExecutor(_WRITERS) as pool:
        for partition in range(partitions):
            progress(f"landing {len(values) * partitions:,} files: partition {partition + 1} of {partitions}")
            for _ in pool.map(create, _files(layout, format_, partition, values)):
                pass


def _files(
    layout: Layout, format_: Format, partition: int, values: Sequence[bytes]
) -> Iterator[tuple[str, Sequence[bytes]]]:
    """(path, content) of each file."""
    registry = SchemaRegistry()
    registry.add(codec.SCHEMA)
    writer = PartitionWriter(
        layout, partition, 0, format_=format_, codec_="zstandard", limits=_ONE_EACH, registry=registry
    )
    for offset, value in enumerate(values):
        writer.append(Records.of([(offset, _millis(offset), None, value)]), lambda _: "kafka")
        sealed = writer.sealed.popleft()
        yield f"{layout.raw(partition)}/{sealed.name}", list(sealed.chunks)


def _cut(fs: Hdfs, layout: Layout, count: int, partitions: int, progress: Step) -> list[Cut]:
    """Writes a cut after each record, an hour apart."""
    made = [
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
        for path in (cuts.link_path(layout, cut.number), cuts.name_path(layout, cut.name)):
            fs.create(path, [cut.to_json()], create_parents=True)

    with ThreadPoolExecutor(_WRITERS) as pool:
        list(pool.map(write, made))
    return made


def _millis(offset: int) -> int:
    return int((_BEGAN + timedelta(hours=offset)).timestamp() * 1000)
