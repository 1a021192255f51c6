"""The same records landed as Avro and as Parquet, through a real Kafka, HDFS and Spark."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import fastavro
from msgspec.structs import replace

from infra.settings import Settings
from infra.topics import end_offsets
from ingest.event import codec
from ingest.event.codec import SCHEMA, encode
from ingest.event.event import Device
from processing.events import raw
from storage.audit.topic import audit
from storage.batches import cuts, ledger
from storage.batches.ledger import BatchLedger
from storage.formats.avro.writer import Container
from storage.formats.envelope import event_envelope
from storage.formats.file_info import FileInfo
from storage.formats.headers import read_info
from storage.formats.parquet.writer import ParquetFile
from storage.formats.records import records
from storage.hdfs import Hdfs
from storage.layout import Layout, visible
from tests.support.corners import own_topics, produce, publish_schema
from tests.support.events import click
from tests.support.servers import running_sink
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from pathlib import Path

    from pyspark.sql import DataFrame, SparkSession

EVENT = click(
    campaign={"source": "Zoë"},
    consent={"analytics": True, "ads": False},
    device=Device(browser="Firefox", is_bot=True),
    position=2**31 - 1,
    value=-0.1,
    experiments={"carousel": "b"},
    properties={"a": '"1"', "b": "null"},
    flags=("odd_clock",),
)
BAD = codec.MARKER + codec.FINGERPRINT + b"\xff" * 30


def land(cluster: Settings, format_: str) -> tuple[Settings, BatchLedger, list[str]]:
    """The records below in a corner of their own: its settings, its ledger, its files."""
    corner = own_topics(cluster, 1, format=format_)
    publish_schema(corner)
    absurd = replace(EVENT, occurred_at=2**63 - 1, received_at=-(2**63))
    events = [encode(event) for event in (EVENT, click(message_id="b"), absurd)]
    produce(corner, 0, [events[0], BAD if format_ == "parquet" else b"{}", *events[1:]])
    produce(corner, 0, [b'{"reason": "bad"}', None], corner.kafka.rejected_topic, key=b"k")
    fs, layout = Hdfs(corner), Layout(corner.hdfs.root, corner.kafka.topic)
    cut = cuts.take(fs, layout, "one", lambda: end_offsets(corner, layout.topic))
    with running_sink(corner) as sink:
        eventually(lambda: ledger.current(fs, layout, cut).landed_complete, worker=sink)
    files = cuts.files(fs, layout, cut)
    return corner, ledger.current(fs, layout, cut), [f"{corner.hdfs.address}{file.path}" for file in files]


def collected(rows: DataFrame) -> list[Any]:
    return sorted(rows.drop("appended_at").collect())


def test_curation_reads_the_same_rows_from_both_formats(cluster_settings: Settings, spark: SparkSession) -> None:
    found = {}
    for format_ in ("avro", "parquet"):
        corner, balance, files = land(cluster_settings, format_)
        assert [file.rsplit(".", 1)[-1] for file in files] == [format_]
        assert (balance.total("landed"), balance.total("quarantined"), balance.total("missing")) == (3, 1, 0)
        found[format_] = raw.read(spark, files, {0: 0}, {0: 4})
        rejected = f"{corner.hdfs.address}{Layout(corner.hdfs.root, corner.kafka.rejected_topic).raw(0)}"
        plain = spark.read.format(format_).load(f"{rejected}/b=0000000000").select("offset", "key", "value")
        assert sorted(plain.collect()) == [(0, b"k", b'{"reason": "bad"}'), (1, b"k", None)]
        both = raw.read(spark, [*files, *files], {0: 1}, {0: 3})
        assert [row["offset"] for row in both.collect()] == [2, 2]
    assert found["avro"].dtypes == found["parquet"].dtypes
    assert collected(found["avro"]) == collected(found["parquet"])
    assert [row["offset"] for row in collected(found["parquet"])] == [0, 2, 3]
    assert found["avro"].unionByName(found["parquet"]).where("appended_at > 1600000000000").count() == 6


def test_a_deep_audit_reads_every_record_of_either_format(cluster_settings: Settings) -> None:
    told = {}
    for format_ in ("avro", "parquet"):
        corner, _, _ = land(cluster_settings, format_)
        fs, layout = Hdfs(corner), Layout(corner.hdfs.root, corner.kafka.topic)
        [file] = cuts.files(fs, layout, cuts.get(fs, layout, "one"))
        told[format_] = [(p, o, e["event_id"], e["occurred_at"]) for p, o, _, e in records(fs, file.path)]
        found = audit(fs, layout, deep=True)
        assert (found.findings, found.events, found.distinct_ids) == ([], 3, 2)
        rejected = Layout(corner.hdfs.root, corner.kafka.rejected_topic)
        [name] = [f.name for f in visible(fs.names(f"{rejected.raw(0)}/b=0000000000"))]
        assert [row[3] for row in records(fs, f"{rejected.raw(0)}/b=0000000000/{name}")] == [
            (b"k", b'{"reason": "bad"}'),
            (b"k", None),
        ]
    assert told["avro"] == told["parquet"]


def test_a_batch_of_both_formats_is_read_whole(cluster_settings: Settings, spark: SparkSession) -> None:
    (_, _, avro), (_, _, parquet) = (land(cluster_settings, format_) for format_ in ("avro", "parquet"))
    rows = raw.read(spark, [*avro, *parquet], {0: 0}, {0: 4}).groupBy("offset").count().collect()
    assert {row["offset"]: row["count"] for row in rows} == {0: 2, 2: 2, 3: 2}


def test_a_parquet_file_of_another_version_is_read_as_avro_is(spark: SparkSession, tmp_path: Path) -> None:
    lacking = {"campaign", "consent", "flags", "sequence", "quantity"}
    older = SCHEMA | {"fields": [field for field in SCHEMA["fields"] if field["name"] not in lacking]}
    types = {"type": "enum", "name": "EventType", "default": "custom", "symbols": ["page_view", "hover", "custom"]}
    newer = SCHEMA | {
        "fields": [field | {"type": types} if field["name"] == "event_type" else field for field in SCHEMA["fields"]]
    }
    paths: dict[str, list[str]] = {"avro": [], "parquet": []}
    for schema in (older, newer):
        for format_ in paths:
            paths[format_].append(str(written(tmp_path, schema, format_, len(paths[format_]))))
    avro, parquet = (
        raw.read(spark, [f"file://{path}" for path in p], {0: 0, 1: 0}, {0: 9, 1: 9}) for p in paths.values()
    )
    assert avro.dtypes == parquet.dtypes
    assert sorted(avro.collect()) == sorted(parquet.collect())
    assert {row[0] for row in parquet.select("event.event_type").collect()} == {"page_view", "custom"}


def written(folder: Path, schema: dict[str, Any], format_: str, partition: int) -> Path:
    """Two events in that schema as a file of that format: the second has the schema's last event type."""
    envelope = event_envelope(schema)
    make = Container(envelope, partition, "null") if format_ == "avro" else ParquetFile(envelope, partition)
    event = fastavro.schemaless_reader(io.BytesIO(codec.split(encode(click()))[1]), SCHEMA, SCHEMA)
    symbols = next(field["type"]["symbols"] for field in schema["fields"] if field["name"] == "event_type")
    for offset, symbol in enumerate((symbols[0], symbols[1] if "hover" in symbols else symbols[0])):
        body = io.BytesIO()
        fastavro.schemaless_writer(body, schema, event | {"event_type": symbol})
        make.add(offset, 1_000, body.getvalue())
    path = folder / f"{partition}.{format_}"
    path.write_bytes(b"".join(make.file(FileInfo("clicks", partition, 0, 1, make.finish()))))
    return path


def test_the_ledger_reads_a_footer_however_long(cluster_settings: Settings) -> None:
    fs = Hdfs(cluster_settings)
    gaps = tuple((offset, offset, "kafka") for offset in range(1, 20_000, 2))
    info = FileInfo("clicks", 0, 0, 19_999, 10_000, gaps=gaps)  # type: ignore[arg-type]
    file = ParquetFile(event_envelope(SCHEMA), 0)
    body = codec.split(encode(EVENT))[1]
    for offset in range(0, 20_000, 2):
        file.add(offset, 0, body)
    assert file.finish() == info.records
    fs.create("/footer/long.parquet", file.file(info), create_parents=True)
    assert read_info(fs, "/footer/long.parquet") == info
    assert fs.read_tail("/footer/long.parquet", 4) == b"PAR1"
