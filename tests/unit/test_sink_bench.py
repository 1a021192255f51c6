"""The parts of the sink's bench: what it sends, how it reads back, what it compares."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import fastavro
import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from infra.errors import ServiceError
from ingest.event.codec import SCHEMA, decode, encode, split
from storage.bench.load import as_json, events
from storage.bench.measure import Program, first_line, measure
from storage.bench.output import ids
from storage.bench.sink import compare
from storage.errors import StorageError
from storage.formats.avro.writer import Container
from storage.formats.envelope import event_envelope
from storage.formats.file_info import FileInfo

IDS = [made.event_id for made in events(3)]
VALUES = [encode(made) for made in events(3)]


def test_events_differ_and_are_the_same_at_every_call() -> None:
    made = list(events(1_000, models=900))
    assert len({each.event_id for each in made}) == len({each.message_id for each in made}) == len(made)
    assert len({each.user_id for each in made}) == 900
    few = [[each.event_id for each in events(50, seed)] for seed in (7, 7, 8)]
    assert few[0] == few[1] != few[2]
    sizes = [len(encode(each)) for each in made[:500]]
    assert 400 < sum(sizes) / len(sizes) < 560


def test_the_same_event_goes_as_json_without_what_is_absent() -> None:
    made = next(events(1))
    document = msgspec.json.decode(as_json(made))
    assert document["event_id"] == made.event_id == decode(encode(made)).event_id
    assert document["page"]["path"] == made.page.path
    assert {"order_id", "quantity", "consent", "flags"}.isdisjoint(document)


def envelopes() -> bytes:
    container = Container(event_envelope(SCHEMA), 0, "zstandard")
    bodies = [split(value)[1] for value in VALUES]
    container.extend(0, [5] * 3, bodies, [None] * 3, sum(map(len, bodies)))
    return b"".join(container.file(FileInfo("clicks", 0, 0, 2, container.finish())))


def values() -> bytes:
    out = io.BytesIO()
    schema = {"type": "record", "name": "topLevelRecord", "fields": [{"name": "value", "type": ["bytes", "null"]}]}
    fastavro.writer(out, schema, [{"value": value} for value in VALUES])
    return out.getvalue()


def parquet(**columns: Any) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.table(columns), out)
    return out.getvalue()


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("ours.avro", envelopes()),
        ("spark.zstandard.avro", values()),
        ("ours.parquet", parquet(offset=[0, 1, 2], event=[{"event_id": each, "sequence": 1} for each in IDS])),
        ("spark.zstd.parquet", parquet(event_id=IDS)),
    ],
)
def test_ids_are_read_from_every_form_of_file(name: str, data: bytes) -> None:
    assert list(ids(name, data)) == IDS


def test_a_file_of_another_kind_is_an_error() -> None:
    with pytest.raises(StorageError, match=r"part-0\.csv"):
        ids("part-0.csv", b"")


def turn(seconds: float, cpu: float = 1.0, **more: Any) -> dict[str, Any]:
    return {"seconds": seconds, "cpu_seconds": cpu, "peak_bytes": 5_000_000, "load_average": 1.0, **more}


def test_ratios_are_of_medians_and_to_the_peer_of_the_same_format() -> None:
    turns = {
        "limit": [turn(1.0)],
        "avro": [turn(2.0, cpu=3.0), turn(9.0, cpu=3.0), turn(2.0, cpu=3.0, bytes=7_000_000, files=4)],
        "parquet": [turn(4.0)],
        "spark_avro": [turn(8.0, cpu=12.0)],
    }
    results = compare(turns, 1000)
    avro = results["avro"]
    assert (avro["events_per_second"], avro["to_limit"], avro["to_spark"], avro["cpu_to_spark"]) == (
        500,
        0.5,
        4.0,
        0.25,
    )
    assert (avro["files"], avro["mb"], avro["peak_mb"]) == (4, 7, 5)
    assert results["parquet"]["to_spark"] is None
    assert results["spark_avro"]["to_spark"] is None


def program(code: str, ends: bool = True) -> Program:
    return Program([sys.executable, "-c", code], {}, ends)


def test_what_is_measured_are_all_processes_of_a_program(tmp_path: Path) -> None:
    burn = "import time\nwhile time.process_time() < 0.3: pass\n"
    code = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {burn!r}])\nprint('done', flush=True)"
    cost, said = measure("burner", [program(code), program(code)], tmp_path, first_line)
    assert cost.cpu_seconds >= 0.6
    assert cost.peak_bytes > 0
    assert said == ["", ""]


def test_a_program_that_fails_is_an_error_with_its_last_words(tmp_path: Path) -> None:
    with pytest.raises(ServiceError, match=r"peer: ended with code 1: .*no luck"):
        measure("peer", [program("raise SystemExit('no luck')")], tmp_path, first_line)
