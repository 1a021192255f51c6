"""Parquet files made of encoded bodies, read back by others; and what becomes of a body that can't be decoded."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import duckdb
import fastavro
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from infra.errors import DependencyError
from ingest.event import codec
from ingest.event.event import EVENT_TYPES, ClickEvent, Device, Page, Source, as_dict
from storage.errors import ContainerError
from storage.formats import FORMATS
from storage.formats.arrow_decoder import require
from storage.formats.avro.writer import Container
from storage.formats.envelope import event_envelope, varint
from storage.formats.file_info import FileInfo
from storage.formats.format import RecordFile
from storage.formats.parquet.footer import read_info
from storage.formats.parquet.writer import ROW_GROUP_BYTES, ParquetFile
from storage.formats.schemas import SchemaRegistry
from storage.layout import Layout
from storage.sink.rolling import Limits
from storage.sink.writer import KafkaRecord, PartitionWriter, Records, Sealed
from tests.support.events import minimal

EVENT = minimal(position=12_345)
VALUE = codec.encode(EVENT)
BODY = codec.split(VALUE)[1]
LONG = st.integers(-(2**63), 2**63 - 1)
INT = st.none() | st.integers(-(2**31), 2**31 - 1)
TEXT = st.text(max_size=40)
NAME = st.none() | TEXT
NUMBER = st.none() | st.floats(allow_nan=False)
TEXTS = st.dictionaries(TEXT, TEXT, max_size=3)
EVENTS = st.builds(
    ClickEvent,
    event_id=TEXT,
    message_id=TEXT,
    event_type=st.sampled_from(EVENT_TYPES),
    event_name=NAME,
    occurred_at=LONG,
    received_at=LONG,
    sequence=LONG,
    anonymous_id=NAME,
    user_id=NAME,
    client_session_id=NAME,
    page=st.builds(Page, NAME, NAME, NAME, NAME),
    campaign=TEXTS,
    device=st.builds(Device, NAME, NAME, NAME, st.booleans()),
    ip=NAME,
    consent=st.dictionaries(TEXT, st.booleans(), max_size=3),
    write_key=TEXT,
    source=st.builds(Source, TEXT, NAME, NAME),
    item_id=NAME,
    list_id=NAME,
    position=INT,
    propensity=NUMBER,
    impression_id=NAME,
    model_version=NAME,
    order_id=NAME,
    value=NUMBER,
    currency=NAME,
    quantity=INT,
    experiments=TEXTS,
    properties=TEXTS,
    flags=st.lists(TEXT, max_size=3).map(tuple),
)


def finished(file: RecordFile, bodies: list[bytes], first: int = 0) -> bytes:
    for offset, body in enumerate(bodies, first):
        file.add(offset, 1_700_000_000_123 + offset, body, b"key")
    last = max(first, first + len(bodies) - 1)
    return b"".join(file.file(FileInfo("clicks", 3, first, last, file.finish())))


def parquet(bodies: list[bytes], first: int = 0) -> bytes:
    return finished(ParquetFile(event_envelope(codec.SCHEMA), 3), bodies, first)


def as_integers(array: pa.Array) -> pa.Array:
    """Times as numbers, at all depths: Python's can't be so late."""
    if pa.types.is_timestamp(array.type):
        return array.cast(pa.int64())
    if pa.types.is_struct(array.type):
        return pa.StructArray.from_arrays(list(map(as_integers, array.flatten())), names=[f.name for f in array.type])
    return array


def rows(file: bytes | Iterable[bytes]) -> list[Any]:
    table = pq.read_table(io.BytesIO(file if isinstance(file, bytes) else b"".join(file)))
    columns = {name: as_integers(table.column(name).combine_chunks()) for name in table.column_names}
    return pa.table(columns).to_pylist(maps_as_pydicts="strict")


@settings(max_examples=12, deadline=None)
@given(st.lists(EVENTS, min_size=1, max_size=5), st.integers(0, 2**55))
def test_any_events_come_back_equal_from_both_formats(events: list[ClickEvent], first: int) -> None:
    bodies = [codec.split(codec.encode(event))[1] for event in events]
    expected = [
        {"partition": 3, "offset": offset, "appended_at": 1_700_000_000_123 + offset, "event": plain(event)}
        for offset, event in enumerate(events, first)
    ]
    assert rows(parquet(bodies, first)) == expected
    schema = codec.without_logical_types(event_envelope(codec.SCHEMA))
    avro = finished(Container(schema, 3, "zstandard"), bodies, first)
    assert list(fastavro.reader(io.BytesIO(avro))) == expected


def plain(event: ClickEvent) -> dict[str, Any]:
    """The event as JSON has it: lists for tuples."""
    fields = as_dict(event)
    return fields | {"flags": list(fields["flags"])}


def test_columns_have_the_contracts_types() -> None:
    schema = pq.read_schema(io.BytesIO(parquet([BODY])))
    instant, text = pa.timestamp("ms", "UTC"), pa.string()
    assert [(f.name, f.type, f.nullable) for f in schema][:3] == [
        ("partition", pa.int32(), False),
        ("offset", pa.int64(), False),
        ("appended_at", instant, False),
    ]
    event = schema.field("event")
    assert not event.nullable
    assert [field.name for field in event.type] == [field["name"] for field in codec.SCHEMA["fields"]]
    assert {field.name for field in event.type if field.nullable} == {
        field["name"] for field in codec.SCHEMA["fields"] if isinstance(field["type"], list)
    }
    types = {field.name: field.type for field in event.type}
    assert (types["event_type"], types["occurred_at"], types["position"]) == (text, instant, pa.int32())
    assert (types["value"], types["device"].field("is_bot").type) == (pa.float64(), pa.bool_())
    assert (types["campaign"].key_type, types["consent"].item_type) == (text, pa.bool_())
    assert types["flags"].value_type == text


def test_a_file_is_made_for_reading() -> None:
    long = codec.split(codec.encode(replace(EVENT, properties={"text": "x" * 100_000})))[1]
    file = ParquetFile(event_envelope(codec.SCHEMA), 3)
    data = finished(file, [long] * (3 * ROW_GROUP_BYTES // len(long) // 2))
    metadata = pq.read_metadata(io.BytesIO(data))
    assert metadata.num_row_groups == 2
    assert file.size == file.length <= len(data)
    for at in range(2):
        group = metadata.row_group(at)
        assert group.sorting_columns == (pq.SortingColumn(1),)
        columns = {group.column(i).path_in_schema: group.column(i) for i in range(group.num_columns)}
        assert {column.compression for column in columns.values()} == {"ZSTD"}
        assert columns["offset"].statistics.has_min_max and columns["event.event_type"].statistics.has_min_max
        assert all(column.has_offset_index for column in columns.values())
        assert columns["offset"].has_column_index
        assert columns["event.item_id"].has_dictionary_page and not columns["event.event_id"].has_dictionary_page
    offsets = pq.read_table(io.BytesIO(data), columns=["offset"])["offset"]
    assert offsets.to_pylist() == list(range(metadata.num_rows))


def test_size_is_what_waits_and_what_is_compressed() -> None:
    file = ParquetFile(event_envelope(codec.SCHEMA), 3)
    empty = file.size
    file.add(0, 0, BODY, b"key")
    assert file.size - empty > len(BODY) + len(b"key")
    assert 0 < file.length < file.size
    for offset in range(1, 5_000):
        file.add(offset, 0, BODY, None)
    assert file.size > 5_000 * len(BODY)
    assert file.finish() == 5_000
    assert file.size < 5_000 * len(BODY) / 2


def test_the_footer_says_what_the_file_answers_for() -> None:
    info = FileInfo("clicks", 3, 10, 29, 16, ((12, 13),), ((20, 20, "kafka"), (22, 22, "lost")), "00ff")
    file = ParquetFile(event_envelope(codec.SCHEMA), 3)
    assert file.finish() == 0
    data = b"".join(file.file(info))
    assert rows(data) == []
    footer = int.from_bytes(data[-8:-4], "little") + 8
    assert read_info(data) == read_info(data[-footer:]) == info
    for size in (8, footer - 1):
        with pytest.raises(ContainerError, match="longer") as error:
            read_info(data[-size:])
        assert error.value.truncated


@pytest.mark.parametrize("data", [b"", b"PAR", b"Obj\x01 no Parquet"])
def test_what_is_no_parquet_is_told(data: bytes) -> None:
    with pytest.raises(ContainerError, match="not a Parquet file"):
        read_info(data)


def test_a_footer_that_is_garbled_or_none_of_ours_is_told() -> None:
    with pytest.raises(ContainerError, match="can't be read"):
        read_info(b"\xff" * 20 + (20).to_bytes(4, "little") + b"PAR1")
    foreign = io.BytesIO()
    pq.write_table(pa.table({"a": [1]}), foreign)
    with pytest.raises(ContainerError, match="'topic'"):
        read_info(foreign.getvalue())


def test_duckdb_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "clicks.parquet"
    path.write_bytes(parquet([BODY, codec.split(codec.encode(replace(EVENT, campaign={"source": "x"})))[1]], 7))
    found = duckdb.sql(
        "SELECT \"offset\", event.event_type, epoch_ms(event.occurred_at), event.page.url, event.campaign['source'] "
        f"FROM '{path}' WHERE \"offset\" > 6 ORDER BY 1"
    ).fetchall()
    assert found == [
        (7, "page_view", 1_431_857_100_000, None, None),
        (8, "page_view", 1_431_857_100_000, None, "x"),
    ]


# What PartitionWriter makes of it

NEWER: dict[str, Any] = json.loads(json.dumps(codec.SCHEMA))
NEWER["fields"].append({"name": "added", "type": ["null", "string"], "default": None})
NEWER_VALUE = codec.MARKER + codec.schema_fingerprint(NEWER) + BODY + b"\x02\x06new"
# Fastavro takes it, datafusion does not: its int has more than 32 bits.
TOO_LONG = BODY.replace(varint(12_345), varint(2**40))


def landed(records: list[KafkaRecord], plain: bool = False) -> list[Sealed]:
    registry = SchemaRegistry()
    registry.add(codec.SCHEMA)
    registry.add(NEWER)
    writer = PartitionWriter(
        Layout("/root", "clicks"),
        3,
        records[0][0],
        format_=FORMATS["parquet"],
        codec_="null",
        limits=Limits(1 << 30, 1 << 30, 300.0),
        registry=None if plain else registry,
    )
    assert writer.append(Records.of(records), lambda offset: "kafka") == len(records)
    writer.seal("age")
    assert writer.size == 0
    return list(writer.sealed)


def of(values: list[bytes | None]) -> list[KafkaRecord]:
    return [(offset, 1_000 + offset, b"key", value) for offset, value in enumerate(values)]


@pytest.mark.parametrize(
    "bad",
    [
        b"",
        b"\x00" * 100,
        b"\xff" * 100,
        BODY + b"x",
        BODY[:-1],
        BODY[1:],
        BODY.replace(b"native", b"\xff" * 6),
        BODY + BODY,
        TOO_LONG,
    ],
    ids=["empty", "zeros", "ones", "longer", "shorter", "shifted", "no UTF-8", "two", "int too long"],
)
@pytest.mark.parametrize("where", [{0}, {6}, {2, 3, 5}, {0, 6}, set(range(7))], ids=str)
def test_a_body_that_is_none_goes_to_the_quarantine_and_its_neighbours_are_landed(bad: bytes, where: set[int]) -> None:
    prefix = VALUE[: codec.HEADER_SIZE]
    (sealed,) = landed(of([prefix + bad if offset in where else VALUE for offset in range(7)]))
    assert sealed.name.endswith(".parquet")
    assert [row["offset"] for row in rows(sealed.chunks)] == [offset for offset in range(7) if offset not in where]
    assert all(row["event"] == plain(EVENT) for row in rows(sealed.chunks))
    assert {o for first, last in sealed.info.quarantined for o in range(first, last + 1)} == where
    assert read_info(b"".join(sealed.chunks)) == sealed.info
    aside = rows(sealed.quarantine)
    assert [(row["partition"], row["offset"], row["appended_at"], row["key"], row["value"]) for row in aside] == [
        (3, offset, 1_000 + offset, b"key", prefix + bad) for offset in sorted(where)
    ]
    assert read_info(b"".join(sealed.quarantine)).records == len(where)


def test_different_ways_to_be_none_and_a_hole_are_all_accounted_for() -> None:
    prefix = VALUE[: codec.HEADER_SIZE]
    records = of([VALUE, prefix + TOO_LONG, b"{}", prefix + b"\xff", VALUE, None, VALUE])
    (sealed,) = landed([*records, (9, 0, None, VALUE)])
    assert [row["offset"] for row in rows(sealed.chunks)] == [0, 4, 6, 9]
    assert sealed.info.quarantined == ((1, 3), (5, 5)) and sealed.info.gaps == ((7, 8, "kafka"),)
    assert [row["offset"] for row in rows(sealed.quarantine)] == [1, 2, 3, 5]


def test_a_flood_of_garbage_is_set_aside_whole() -> None:
    (sealed,) = landed(of([VALUE[: codec.HEADER_SIZE] + b"\xff" * 20] * 20_000))
    assert (sealed.info.records, sealed.info.quarantined) == (0, ((0, 19_999),))


def test_older_bodies_move_up_to_the_files_schema() -> None:
    old, new = landed(of([VALUE, NEWER_VALUE, VALUE]))
    assert "added" not in rows(old.chunks)[0]["event"]
    assert [(row["offset"], row["event"]["added"]) for row in rows(new.chunks)] == [(1, "new"), (2, None)]
    assert new.info.fingerprint == codec.schema_fingerprint(NEWER).hex()


def test_plain_topics_are_landed_as_they_are() -> None:
    (sealed,) = landed([(0, 1, b"key", b"{not even JSON"), (1, 2, None, None), (2, 3, b"", b"\xff")], plain=True)
    assert [(row["offset"], row["appended_at"], row["key"], row["value"]) for row in rows(sealed.chunks)] == [
        (0, 1, b"key", b"{not even JSON"),
        (1, 2, None, None),
        (2, 3, b"", b"\xff"),
    ]


def test_without_datafusion_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datafusion", None)
    with pytest.raises(DependencyError, match=r"sink\.check_bodies.*clickstream\[parquet\]"):
        require("sink.check_bodies")
