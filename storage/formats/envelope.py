"""The envelope `{partition, offset, appended_at, event}` of a landed record: its Avro schema, and its encoding.

Avro encodes a record as its fields one after another: three longs before an event's untouched body make the envelope.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

HEAD_FIELDS = 3  # of an envelope, before those of the body
_TIME = {"type": "long", "logicalType": "timestamp-millis"}


def event_envelope(event: Mapping[str, Any]) -> dict[str, Any]:
    """Schema of the records of topic clicks; `event` is the writer's schema."""
    return _envelope("Envelope", [{"name": "event", "type": dict(event)}])


def plain_envelope() -> dict[str, Any]:
    """Schema of records that are landed as they came: clicks.rejected, and whatever is quarantined."""
    optional = {"type": ["null", "bytes"], "default": None}
    return _envelope("PlainEnvelope", [{"name": "key", **optional}, {"name": "value", **optional}])


def body_fields(envelope: Mapping[str, Any]) -> str:
    """The fields of an envelope's bodies, in JSON."""
    return json.dumps(envelope["fields"][HEAD_FIELDS:])


def _envelope(name: str, fields: list[dict[str, Any]]) -> dict[str, Any]:
    head = [
        {"name": "partition", "type": "int"},
        {"name": "offset", "type": "long"},
        {"name": "appended_at", "type": _TIME, "doc": "Kafka's time of the record"},
    ]
    return {"type": "record", "name": name, "namespace": "clickstream", "fields": head + fields}


def varint(number: int) -> bytes:
    """Avro's long: zigzag, then seven bits a byte, lowest first."""
    return unsigned_varint((number << 1) ^ (number >> 63))


@lru_cache(maxsize=1024)
def unsigned_varint(n: int) -> bytes:
    out = bytearray()
    while n > 0x7F:
        out.append(n & 0x7F | 0x80)
        n >>= 7
    out.append(n)
    return bytes(out)


def plain_body(key: bytes | None, value: bytes | None) -> bytes:
    """The two last fields of a plain envelope."""
    return b"".join(b"\x00" if part is None else b"\x02" + varint(len(part)) + part for part in (key, value))
