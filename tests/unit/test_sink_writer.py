"""The files that a partition's writer makes of records, gaps, and values that it can't read."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from typing import Any

import fastavro
import pytest

from ingest.event import codec
from storage.formats import FORMATS
from storage.formats.avro.blocks import read_metadata
from storage.formats.file_info import FileInfo, Reason
from storage.formats.schemas import SchemaRegistry
from storage.layout import BUCKET, Layout
from storage.sink.rolling import Limits
from storage.sink.writer import PartitionWriter, Records, Sealed
from tests.support.events import event

LIMITS = Limits(max_bytes=1 << 30, max_records=1 << 30, max_age_seconds=300.0)
VALUE = event("m")
# A later version: one more field, with a default.
NEWER: dict[str, Any] = json.loads(json.dumps(codec.SCHEMA))
NEWER["fields"].append({"name": "added", "type": ["null", "string"], "default": None})
NEWER_PREFIX = codec.MARKER + codec.schema_fingerprint(NEWER)
NEWER_VALUE = NEWER_PREFIX + codec.split(VALUE)[1] + b"\x02\x06new"


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def writer(
    position: int = 0, *, plain: bool = False, limits: Limits = LIMITS, clock: Clock | None = None, newer: bool = True
) -> PartitionWriter:
    registry = SchemaRegistry()
    registry.add(codec.SCHEMA)
    if newer:
        registry.add(NEWER)
    return PartitionWriter(
        Layout("/root", "clicks"),
        3,
        position,
        format_=FORMATS["avro"],
        codec_="null",
        limits=limits,
        registry=None if plain else registry,
        now=clock or Clock(),
    )


def kafka(offset: int) -> Reason:
    return "kafka"


def no_gap(offset: int) -> Reason:
    raise AssertionError(f"no hole was expected at {offset}")


def of(*offsets: int, value: bytes | None = VALUE) -> Records:
    return Records.of((offset, 1_000 + offset, b"key", value) for offset in offsets)


def only(target: PartitionWriter) -> Sealed:
    target.seal("age")
    (sealed,) = target.sealed
    return sealed


def rows(chunks: Iterable[bytes]) -> list[Any]:
    return list(fastavro.reader(io.BytesIO(b"".join(chunks))))


def test_records_become_one_file_named_by_its_range() -> None:
    target = writer(100)
    assert target.append(of(100, 101, 102), no_gap) == 3
    sealed = only(target)
    assert sealed.name == Layout("/root", "clicks").file(3, 100, 102, "avro")
    assert [(r["offset"], r["event"]["event_type"]) for r in rows(sealed.chunks)] == [
        (o, "page_view") for o in (100, 101, 102)
    ]
    assert read_metadata(sealed.chunks[0]) == sealed.info
    assert sealed.info.fingerprint == codec.FINGERPRINT.hex()
    assert target.end == 103 and target.size == 0


def test_nothing_read_makes_no_file() -> None:
    target = writer(100)
    target.seal("released")
    assert not target.sealed


def test_a_hole_is_a_gap_with_its_reason_and_part_of_the_range() -> None:
    target = writer(100)
    target.append(of(100, 103), lambda offset: {101: "lost"}[offset])  # type: ignore[return-value]
    target.append(of(105), kafka)
    info = only(target).info
    assert (info.first, info.last, info.records) == (100, 105, 3)
    assert info.gaps == ((101, 102, "lost"), (104, 104, "kafka"))


def test_repeated_records_are_skipped() -> None:
    target = writer(100)
    target.append(of(100, 101), no_gap)
    assert target.append(of(99, 100, 101, 102), no_gap) == 4
    assert only(target).info.records == 3


def test_a_gap_alone_makes_a_file_and_grows_old() -> None:
    clock = Clock()
    target = writer(100, clock=clock)
    target.skip(109, "lost")
    target.roll()
    assert not target.sealed
    clock.now = 300.0
    target.roll()
    (sealed,) = target.sealed
    assert sealed.why == "age"
    assert sealed.info == FileInfo(
        "clicks", 3, 100, 109, 0, gaps=((100, 109, "lost"),), fingerprint=codec.FINGERPRINT.hex()
    )
    assert rows(sealed.chunks) == []


def test_a_long_gap_is_cut_where_buckets_end() -> None:
    target = writer(BUCKET - 1)
    target.append(of(2 * BUCKET + 1), kafka)
    target.seal("age")
    assert [(s.info.first, s.info.last) for s in target.sealed] == [
        (BUCKET - 1, BUCKET - 1),
        (BUCKET, 2 * BUCKET - 1),
        (2 * BUCKET, 2 * BUCKET + 1),
    ]


def test_records_never_cross_a_bucket() -> None:
    target = writer(BUCKET - 2)
    target.append(of(*range(BUCKET - 2, BUCKET + 2)), no_gap)
    target.seal("age")
    assert [(s.info.first, s.info.last, s.why) for s in target.sealed] == [
        (BUCKET - 2, BUCKET - 1, "bucket"),
        (BUCKET, BUCKET + 1, "age"),
    ]


@pytest.mark.parametrize("most", [1, 7, 1_000, 1_001])
def test_the_limit_of_records_is_exact(most: int) -> None:
    target = writer(limits=Limits(1 << 30, most, 300.0))
    target.append(of(*range(2 * most + 1)), no_gap)
    target.seal("age")
    assert [s.info.records for s in target.sealed] == [most, most, 1]


def test_a_cut_closes_the_file_once_all_before_it_was_read() -> None:
    target = writer()
    target.append(of(0, 1, 2), no_gap)
    target.roll(cut=4)
    assert not target.sealed
    target.append(of(3, 4), no_gap)
    target.roll(cut=4)
    assert [(s.info.first, s.info.last, s.why) for s in target.sealed] == [(0, 4, "cut")]
    target.append(of(5), no_gap)
    target.roll(cut=4)
    assert len(target.sealed) == 1


@pytest.mark.parametrize("bad", [None, b"", b"\xc3", b"{}", codec.MARKER + b"1234567"])
def test_a_value_that_is_no_event_is_quarantined_with_its_offset(bad: bytes | None) -> None:
    target = writer()
    target.append(of(0) + of(1, 2, value=bad) + of(3), no_gap)
    sealed = only(target)
    assert (sealed.info.records, sealed.info.quarantined) == (2, ((1, 2),))
    aside = rows(sealed.quarantine)
    assert [(r["partition"], r["offset"], r["key"], r["value"]) for r in aside] == [
        (3, 1, b"key", bad),
        (3, 2, b"key", bad),
    ]
    info = read_metadata(sealed.quarantine[0])
    assert (info.first, info.last, info.records) == (0, 3, 2)


def test_an_unknown_schema_stops_the_partition_until_it_is_known() -> None:
    registry = SchemaRegistry()
    registry.add(codec.SCHEMA)
    target = PartitionWriter(
        Layout("/r", "clicks"), 0, 0, format_=FORMATS["avro"], codec_="null", limits=LIMITS, registry=registry
    )
    waiting = of(0) + of(1, value=NEWER_VALUE) + of(2)
    assert target.append(waiting, no_gap) == 1
    assert target.unknown_schema == codec.schema_fingerprint(NEWER) and target.end == 1
    registry.add(NEWER)
    assert target.append(waiting[1:], no_gap) == 2
    assert target.unknown_schema is None and target.end == 3


def test_an_unknown_schema_that_was_given_up_is_quarantined() -> None:
    target = writer(newer=False)
    given_up = {codec.schema_fingerprint(NEWER)}
    assert target.append(of(0) + of(1, value=NEWER_VALUE), no_gap, given_up) == 2
    assert only(target).info.quarantined == ((1, 1),)


def test_a_newer_schema_begins_a_new_file_and_older_bodies_move_up_to_it() -> None:
    target = writer()
    target.append(of(0) + of(1, value=NEWER_VALUE) + of(2) + of(3, value=NEWER_VALUE), no_gap)
    target.seal("age")
    old, new = target.sealed
    assert (old.info.first, old.info.last, old.why) == (0, 0, "schema")
    assert [r["event"]["added"] for r in rows(new.chunks)] == ["new", None, "new"]
    assert new.info.fingerprint == codec.schema_fingerprint(NEWER).hex()


def test_a_schema_of_somebody_else_takes_no_file_from_ours_however_large_it_is() -> None:
    foreign = {**NEWER, "name": "Order", "fields": [*NEWER["fields"], {"name": "more", "type": "string"}]}
    registry = SchemaRegistry()
    for schema in (codec.SCHEMA, foreign):
        registry.add(schema)
    target = PartitionWriter(
        Layout("/r", "clicks"), 0, 0, format_=FORMATS["avro"], codec_="null", limits=LIMITS, registry=registry
    )
    theirs = codec.MARKER + codec.schema_fingerprint(foreign) + b"\x00"
    target.append(of(0, value=theirs) + of(1) + of(2, value=theirs) + of(3), no_gap)
    info = only(target).info
    assert (info.records, info.quarantined, info.fingerprint) == (2, ((0, 0), (2, 2)), codec.FINGERPRINT.hex())


def test_what_moved_to_another_schema_would_lose_a_field_is_quarantined() -> None:
    fork = {**codec.SCHEMA, "fields": [*codec.SCHEMA["fields"], {"name": "fork", "type": "string", "default": ""}]}
    registry = SchemaRegistry()
    for schema in (codec.SCHEMA, NEWER, fork):
        registry.add(schema)
    target = PartitionWriter(
        Layout("/r", "clicks"), 0, 0, format_=FORMATS["avro"], codec_="null", limits=LIMITS, registry=registry
    )
    forked = codec.MARKER + codec.schema_fingerprint(fork) + codec.split(VALUE)[1] + b"\x02x"
    target.append(of(0, value=NEWER_VALUE) + of(1, value=forked), no_gap)
    assert only(target).info.quarantined == ((1, 1),)


def test_gaps_count_as_memory_and_as_length() -> None:
    bodies = 1_100 * (len(VALUE) + 2)  # a tenth more than there are when the limits are looked at
    target = writer(limits=Limits(max_bytes=bodies, max_records=1 << 30, max_age_seconds=1e9))
    before = target.size
    target.skip(0, "kafka")
    assert target.size > before
    for n in range(2, 2_900, 2):
        target.append(of(n), kafka)
    assert {sealed.why for sealed in target.sealed} == {"bytes"}


def test_a_body_that_does_not_follow_its_older_schema_is_quarantined() -> None:
    target = writer()
    target.append(of(0, value=NEWER_VALUE) + of(1, value=VALUE + b"more") + of(2, value=VALUE[:-3]), no_gap)
    info = only(target).info
    assert (info.records, info.quarantined) == (1, ((1, 2),))


def test_plain_topics_are_landed_as_they_are() -> None:
    target = writer(plain=True)
    target.append(of(0, value=b"{not even JSON") + of(1, value=None), no_gap)
    assert [r["value"] for r in rows(only(target).chunks)] == [b"{not even JSON", None]
