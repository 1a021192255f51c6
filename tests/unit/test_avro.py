"""Avro containers made of encoded bodies, read back by another Avro library."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import duckdb_extension_avro
import fastavro
import pytest

from ingest.event import codec
from storage.errors import ContainerError
from storage.formats.arrow_decoder import decoder
from storage.formats.avro.blocks import read_metadata
from storage.formats.avro.writer import BLOCK_BYTES, BLOCK_RECORDS, Container
from storage.formats.envelope import event_envelope, plain_body, plain_envelope, varint
from storage.formats.file_info import FileInfo
from storage.formats.format import Codec
from tests.support.events import minimal

EVENT = minimal(properties={"name": '"Zoë"'}, flags=("odd_clock",))
BODY = codec.split(codec.encode(EVENT))[1]


def records(file: bytes) -> list[Any]:
    return list(fastavro.reader(io.BytesIO(file)))


def filled(codec_: Codec, offsets: list[int], appended_at: int = 1_700_000_000_123) -> bytes:
    container = Container(event_envelope(codec.SCHEMA), 3, codec_)
    for offset in offsets:
        container.add(offset, appended_at, BODY)
    info = FileInfo("clicks", 3, offsets[0], offsets[-1], container.finish())
    return b"".join(container.file(info))


@pytest.fixture(scope="module")
def duck() -> duckdb.DuckDBPyConnection:
    """DuckDB with its Avro extension, from the package that ships it."""
    [extension] = Path(duckdb_extension_avro.__file__).parent.rglob("avro.duckdb_extension")
    connection = duckdb.connect()
    connection.execute(f"LOAD '{extension}'")
    return connection


@pytest.mark.parametrize("codec_", ["deflate", "null"])
def test_duckdb_reads_it(duck: duckdb.DuckDBPyConnection, tmp_path: Path, codec_: Codec) -> None:
    path = tmp_path / "clicks.avro"
    path.write_bytes(filled(codec_, list(range(BLOCK_RECORDS + 9))))
    columns = (
        "count(*), max(\"offset\"), min(epoch_ms(appended_at)), min(event.event_type), min(event.properties['name'])"
    )
    found = duck.sql(f"SELECT {columns} FROM read_avro('{path}')").fetchall()
    assert found == [(BLOCK_RECORDS + 9, BLOCK_RECORDS + 8, 1_700_000_000_123, "page_view", '"Zoë"')]


def test_duckdb_knows_no_zstandard_in_avro(duck: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    """As the README says: when this fails, take the sentence out."""
    path = tmp_path / "clicks.avro"
    path.write_bytes(filled("zstandard", [0]))
    with pytest.raises(duckdb.Error, match="unknown codec"):
        duck.sql(f"SELECT * FROM read_avro('{path}')").fetchall()


@pytest.mark.parametrize(("count", "broken"), [(3, []), (3, [0, 1, 2]), (BLOCK_RECORDS + 9, [1, 2, BLOCK_RECORDS + 1])])
def test_bodies_that_fail_the_check_are_unread_and_the_others_are_in_the_file(
    count: int, broken: Sequence[int]
) -> None:
    bodies = [BODY] * count
    for offset in broken:
        bodies[offset] = BODY[:-1]
    container = Container(
        event_envelope(codec.SCHEMA), 3, "zstandard", decoder(json.dumps(codec.SCHEMA["fields"])).sound
    )
    keys = [str(offset).encode() for offset in range(count)]
    container.extend(0, [7] * count, bodies, keys, sum(map(len, bodies)))
    assert container.finish() == count - len(broken)
    assert container.unread == [(offset, 7, keys[offset], BODY[:-1]) for offset in broken]
    file = b"".join(container.file(FileInfo("clicks", 3, 0, count - 1, container.records)))
    assert [row["offset"] for row in records(file)] == [n for n in range(count) if n not in set(broken)]


@pytest.mark.parametrize(("codec_", "blocks"), [("zstandard", 2), ("deflate", 1), ("null", 1)])
def test_every_record_is_read_back_whatever_the_codec(codec_: Codec, blocks: int) -> None:
    offsets = list(range(100_000, 100_000 + blocks * BLOCK_RECORDS + 7))
    read = records(filled(codec_, offsets))
    assert [r["offset"] for r in read] == offsets
    assert {r["partition"] for r in read} == {3}
    assert read[-1]["event"]["properties"] == {"name": '"Zoë"'}
    assert read[0]["event"]["occurred_at"] == datetime(2015, 5, 17, 10, 5, tzinfo=UTC)


def test_large_bodies_that_come_at_once_fill_block_after_block() -> None:
    bodies = [bytes(BLOCK_BYTES // 4)] * 2_000 + [bytes(BLOCK_BYTES)] * 1_200
    container = Container(plain_envelope(), 0, "zstandard")
    container.extend(5, [1] * len(bodies), bodies, [None] * len(bodies), sum(map(len, bodies)))
    assert container.finish() == len(bodies)
    assert len(container._blocks) == 2_000 / 4 + 1_200


@pytest.mark.parametrize("edge", [0, 63, 64, 8_191, 8_192, 16_383, 16_384, 2**20, 2**31, 2**40, 2**55])
def test_offsets_and_times_survive_at_every_length_of_their_encoding(edge: int) -> None:
    offsets = [offset for offset in (edge - 1, edge, edge + 1) if offset >= 0]
    assert [r["offset"] for r in records(filled("null", offsets))] == offsets
    if edge < 2**40:
        (one,) = records(filled("null", [7], appended_at=edge))
        assert one["appended_at"].timestamp() * 1000 == pytest.approx(edge)


def test_a_time_before_1970_or_none_survives() -> None:
    (one,) = records(filled("null", [7], appended_at=-1))
    assert one["appended_at"] == datetime(1969, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC)


@pytest.mark.parametrize("number", [0, -1, 1, 63, -64, 64, 2**62, -(2**63), 2**63 - 1])
def test_varint_is_avros_long(number: int) -> None:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, {"type": "long"}, number)
    assert varint(number) == out.getvalue()


def test_a_file_without_records_is_legal() -> None:
    container = Container(event_envelope(codec.SCHEMA), 3, "zstandard")
    info = FileInfo("clicks", 3, 5, 9, container.finish(), gaps=((5, 9, "lost"),))
    file = b"".join(container.file(info))
    assert records(file) == []
    assert read_metadata(file) == info


def test_plain_envelopes_keep_keys_values_and_their_absence() -> None:
    container = Container(plain_envelope(), 0, "deflate")
    pairs: list[tuple[bytes | None, bytes | None]] = [(b"k", b"v" * 300), (None, b""), (b"", None), (None, None)]
    for offset, (key, value) in enumerate(pairs):
        container.add(offset, 0, plain_body(key, value))
    file = b"".join(container.file(FileInfo("clicks.rejected", 0, 0, 3, container.finish())))
    assert [(r["key"], r["value"]) for r in records(file)] == pairs


def test_the_header_says_what_the_file_answers_for() -> None:
    info = FileInfo(
        topic="clicks",
        partition=3,
        first=10,
        last=29,
        records=15,
        quarantined=((12, 13),),
        gaps=((20, 21, "kafka"), (22, 22, "lost")),
        fingerprint=codec.FINGERPRINT.hex(),
    )
    container = Container(event_envelope(codec.SCHEMA), 3, "zstandard")
    file = b"".join(container.file(info))
    assert read_metadata(file) == info
    assert fastavro.reader(io.BytesIO(file)).metadata["clickstream.records"] == "15"


def test_too_short_a_head_is_told_apart_from_a_file_that_is_none_of_ours() -> None:
    file = filled("null", [1])
    whole = file.index(b"clickstream.writer") + 40
    for size in (0, 3, 4, 20, 500, whole - 60):
        with pytest.raises(ContainerError) as truncated:
            read_metadata(file[:size])
        assert truncated.value.truncated, size
    with pytest.raises(ContainerError, match="not an Avro container") as other:
        read_metadata(b"PAR1" + file)
    assert not other.value.truncated
    foreign = io.BytesIO()
    fastavro.writer(foreign, {"type": "string"}, ["x"])
    with pytest.raises(ContainerError, match="lack or garble 'topic'"):
        read_metadata(foreign.getvalue())


def test_size_grows_with_what_is_added_and_shrinks_by_compression() -> None:
    container = Container(event_envelope(codec.SCHEMA), 3, "zstandard")
    container.add(0, 0, BODY)
    one = container.size
    assert one >= len(BODY)
    for offset in range(1, BLOCK_RECORDS):
        container.add(offset, 0, BODY)
    container.finish()  # until then a block may count as it was
    assert len(BODY) < container.size < BLOCK_RECORDS * one / 2
