"""A ClickEvent's Avro body, written field by field in the order of click_event.avsc. Pure.

By hand, because it is the collector's hottest code: four times as fast as fastavro on a dict here (120,000 against
27,000 events/s on one core). A test holds that both give the same bytes, so the schema can't move away from it.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

from ingest.events import EVENT_TYPES, ClickEvent

_NONE = b"\x00"  # first branch of ["null", …], also the end of a map or array, and false
_SOME = b"\x02"
_TRUE = b"\x01"
_DOUBLE = struct.Struct("<d")


def encode_body(event: ClickEvent) -> bytes:
    """The body without the single-object header."""
    page, device, source = event.page, event.device, event.source
    return b"".join(
        (
            _string(event.event_id),
            _string(event.message_id),
            _EVENT_TYPE[event.event_type],
            _optional(event.event_name),
            _long(event.occurred_at),
            _long(event.received_at),
            _long(event.sequence),
            _optional(event.anonymous_id),
            _optional(event.user_id),
            _optional(event.client_session_id),
            _optional(page.url),
            _optional(page.path),
            _optional(page.referrer),
            _optional(page.title),
            _strings(event.campaign),
            _optional(device.browser),
            _optional(device.os),
            _optional(device.type),
            _TRUE if device.is_bot else _NONE,
            _optional(event.ip),
            _booleans(event.consent),
            _string(event.write_key),
            _string(source.protocol),
            _optional(source.sdk),
            _optional(source.run),
            _optional(event.item_id),
            _optional(event.list_id),
            _optional_int(event.position),
            _optional_double(event.propensity),
            _optional(event.impression_id),
            _optional(event.model_version),
            _optional(event.order_id),
            _optional_double(event.value),
            _optional(event.currency),
            _optional_int(event.quantity),
            _strings(event.experiments),
            _strings(event.properties),
            _array(event.flags),
        )
    )


def _varint(value: int) -> bytes:
    value = value << 1 if value >= 0 else (-value << 1) - 1  # zigzag
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


_SMALL = [_varint(number) for number in range(2048)]  # lengths of strings and maps are nearly always here
_EVENT_TYPE = {name: _SMALL[index] for index, name in enumerate(EVENT_TYPES)}


def _long(value: int) -> bytes:
    return _SMALL[value] if 0 <= value < 2048 else _varint(value)


def _string(value: str) -> bytes:
    raw = value.encode()
    return _long(len(raw)) + raw


def _optional(value: str | None) -> bytes:
    return _NONE if value is None else _SOME + _string(value)


def _optional_int(value: int | None) -> bytes:
    return _NONE if value is None else _SOME + _long(value)


def _optional_double(value: float | None) -> bytes:
    return _NONE if value is None else _SOME + _DOUBLE.pack(value)


def _strings(values: Mapping[str, str]) -> bytes:
    if not values:
        return _NONE
    entries = (_string(name) + _string(value) for name, value in values.items())
    return _long(len(values)) + b"".join(entries) + _NONE


def _booleans(values: Mapping[str, bool]) -> bytes:
    if not values:
        return _NONE
    entries = (_string(name) + (_TRUE if value else _NONE) for name, value in values.items())
    return _long(len(values)) + b"".join(entries) + _NONE


def _array(values: Sequence[str]) -> bytes:
    if not values:
        return _NONE
    return _long(len(values)) + b"".join(map(_string, values)) + _NONE
