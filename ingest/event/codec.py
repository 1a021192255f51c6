"""ClickEvent <-> bytes: Avro 1.12 single-object encoding (C3 01, CRC-64-AVRO of the schema, body)."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

import fastavro
from fastavro.schema import fingerprint, parse_schema, to_parsing_canonical_form

from ingest.errors import CodecError
from ingest.event.encoder import encode_body
from ingest.event.event import ClickEvent, Device, Page, Source, as_dict

MARKER = b"\xc3\x01"
HEADER_SIZE = len(MARKER) + 8
SCHEMA: dict[str, Any] = json.loads(files("ingest").joinpath("click_event.avsc").read_text())  # Spark has it in a zip
_SCHEMA_JSON = json.dumps(SCHEMA)


def schema_fingerprint(schema: Mapping[str, Any]) -> bytes:
    """CRC-64-AVRO of the parsing canonical form, 8 bytes little-endian, as single-object encoding stores it."""
    return bytes.fromhex(fingerprint(to_parsing_canonical_form(dict(schema)), "CRC-64-AVRO"))


FINGERPRINT = schema_fingerprint(SCHEMA)
_HEADER = MARKER + FINGERPRINT


def encode(event: ClickEvent) -> bytes:
    """The value of a Kafka record. Raises UnicodeEncodeError for a lone surrogate in any text."""
    try:
        return _HEADER + encode_body(event)
    except IndexError:  # it has a long text
        out = io.BytesIO()
        fastavro.schemaless_writer(out, _raw(_SCHEMA_JSON), as_dict(event))
        return _HEADER + out.getvalue()


def split(value: bytes) -> tuple[bytes, bytes]:
    """(fingerprint, body) of a Kafka record's value. Raises CodecError when it is no single-object encoding."""
    if len(value) < HEADER_SIZE or value[:2] != MARKER:
        raise CodecError("not an Avro single-object encoding")
    return value[2:HEADER_SIZE], value[HEADER_SIZE:]


def decode(value: bytes, schemas: Mapping[bytes, Mapping[str, Any]] | None = None) -> ClickEvent:
    """The event of a Kafka record, read with this version's schema. `schemas`: fingerprint -> writer's schema.

    Raises CodecError when the schema is unknown or the body does not follow it.
    """
    print_, body = split(value)
    if print_ == FINGERPRINT:
        writer = _SCHEMA_JSON
    elif schemas and print_ in schemas:
        writer = json.dumps(schemas[print_])
    else:
        raise CodecError(f"schema {print_.hex()} is unknown", print_)
    record = read_body(body, writer)
    return ClickEvent(
        **record
        | {
            "page": Page(**record["page"]),
            "device": Device(**record["device"]),
            "source": Source(**record["source"]),
            "flags": tuple(record["flags"]),
        }
    )


def read_body(body: bytes, writer: str) -> dict[str, Any]:
    """A body of schema `writer` (JSON) as this version's record; times stay integers. Raises CodecError."""
    stream = io.BytesIO(body)
    try:
        record = fastavro.schemaless_reader(stream, _raw(writer), _raw(_SCHEMA_JSON))
    except Exception as error:  # fastavro raises any exception on broken input
        raise CodecError(f"body does not follow its schema: {error!r}") from error
    if stream.tell() != len(body):
        raise CodecError(f"{len(body) - stream.tell()} bytes after the body")
    return dict(record)  # type: ignore[arg-type]


@cache
def _raw(schema: str) -> Any:
    """The schema without logical types, parsed: times are then plain integers, as ClickEvent has them."""
    return parse_schema(without_logical_types(json.loads(schema)))


def without_logical_types(schema: Any) -> Any:
    """The schema with times as plain integers, which can be out of a timestamp's range."""
    if isinstance(schema, dict):
        return {k: without_logical_types(v) for k, v in schema.items() if k != "logicalType"}
    if isinstance(schema, list):
        return [without_logical_types(part) for part in schema]
    return schema
