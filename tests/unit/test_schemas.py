"""Which of two event schemas is newer, and the way up."""

from __future__ import annotations

import io
import json
from typing import Any

import fastavro
import pytest

from ingest.event import codec
from storage.errors import ContainerError
from storage.formats.schemas import SchemaRegistry, transcoder


def schema(*fields: str, symbols: int = 2) -> dict[str, Any]:
    more: list[dict[str, Any]] = [{"name": name, "type": ["null", "string"], "default": None} for name in fields]
    kind = {"type": "enum", "name": "Kind", "symbols": [f"s{n}" for n in range(symbols)], "default": "s0"}
    at = {"type": "long", "logicalType": "timestamp-millis"}
    return {
        "type": "record",
        "name": "E",
        "fields": [{"name": "kind", "type": kind}, {"name": "at", "type": at}, *more],
    }


@pytest.mark.parametrize("newer", [schema("a"), schema(symbols=3)])
def test_the_schema_with_more_is_newer_even_if_it_appeared_first(newer: dict[str, Any]) -> None:
    registry = SchemaRegistry()
    new, old = registry.add(newer), registry.add(schema())  # an old collector restarted, and compaction left this order
    assert registry.newer(new, old)
    assert not registry.newer(old, new)


def test_of_two_that_say_the_same_the_later_is_newer() -> None:
    registry = SchemaRegistry()
    first, second = registry.add(schema("a", "b")), registry.add(schema("b", "a"))
    assert registry.newer(second, first)
    assert not registry.newer(first, second)
    assert not registry.newer(first, first)


def changed(**field: Any) -> dict[str, Any]:
    """The contract with a field more, or with another in its place."""
    fields = {one["name"]: one for one in codec.SCHEMA["fields"]} | {field["name"]: field}
    return {**codec.SCHEMA, "fields": list(fields.values())}


@pytest.mark.parametrize(
    ("other", "version"),
    [
        (codec.SCHEMA, True),
        (changed(name="added", type=["null", "string"], default=None), True),
        (changed(name="position", type=["null", "int", "long"], default=None), True),
        ({**codec.SCHEMA, "fields": codec.SCHEMA["fields"][:-1]}, True),  # a version before flags
        (changed(name="added", type="string"), False),  # without a default nobody could read what is older
        (changed(name="position", type=["null", "string"], default=None), False),
        ({**codec.SCHEMA, "name": "Order"}, False),
        (schema("a"), False),
    ],
)
def test_a_version_of_the_contract_is_told_from_what_somebody_else_writes(other: dict[str, Any], version: bool) -> None:
    registry = SchemaRegistry()
    assert registry.is_version(registry.add(other)) is version


@pytest.mark.parametrize("other", [schema("b"), schema("a", symbols=1), {**schema("a"), "name": "F"}])
def test_of_two_that_each_lack_something_neither_is_newer(other: dict[str, Any]) -> None:
    registry = SchemaRegistry()
    one, two = registry.add(schema("a", "c")), registry.add(other)
    assert registry.newer(one, two) is registry.extends(one, two)
    assert not registry.newer(two, one)


def test_a_schema_is_known_by_the_fingerprint_it_has() -> None:
    registry = SchemaRegistry()
    assert registry.add(codec.SCHEMA) == codec.FINGERPRINT
    assert codec.FINGERPRINT in registry and registry[codec.FINGERPRINT] == codec.SCHEMA and len(registry) == 1


def test_a_body_moves_up_with_its_values_and_the_new_fields_default() -> None:
    old, new = schema(), schema("a", symbols=3)
    body = io.BytesIO()
    year_10000 = 253_402_300_800_000  # no datetime can hold it
    fastavro.schemaless_writer(body, schema_without_times(old), {"kind": "s1", "at": year_10000})
    up = transcoder(old, new)(body.getvalue())
    read = fastavro.schemaless_reader(io.BytesIO(up), schema_without_times(new), None)
    assert read == {"kind": "s1", "at": year_10000, "a": None}


def test_bytes_too_many_or_too_few_are_refused() -> None:
    with pytest.raises(ContainerError, match="does not follow"):
        transcoder(schema(), schema("a"))(b"\x00")
    with pytest.raises(ContainerError, match="2 bytes after"):
        transcoder(schema(), schema("a"))(b"\x00\x02xx")


def schema_without_times(one: dict[str, Any]) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(json.dumps(one).replace(', "logicalType": "timestamp-millis"', ""))
    return plain
