"""A ClickEvent's Avro body, written field by field in the order of click_event.avsc. Pure.

By hand, because it is the collector's hottest code: ten times as fast as fastavro on a dict. A test checks that both
give the same bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from functools import lru_cache

from msgspec.structs import astuple

from ingest.event.event import EVENT_TYPES, ClickEvent, Device, Page, Source

_NONE = b"\x00"  # first branch of ["null", …], also the end of a map or array, and false
_SOME = b"\x02"
_TRUE = b"\x01"
_DOUBLE = struct.Struct("<d")
_MAX_CACHED = 512  # characters of a URL
_DIGIT = 1 << 14  # numbers are written two bytes at a time


def encode_body(event: ClickEvent) -> bytes:
    """The body without the single-object header.

    Raises UnicodeEncodeError for a lone surrogate in any text, and IndexError for a text of more than 8191 bytes, which
    fastavro then encodes: checking the length of every text would slow them all.
    """
    (
        event_id, message_id, event_type, event_name, occurred_at, received_at, sequence, anonymous_id, user_id,
        client_session_id, page, campaign, device, ip, consent, write_key, source, item_id, list_id, position,
        propensity, impression_id, model_version, order_id, value, currency, quantity, experiments, properties, flags,
    ) = astuple(event)  # fmt: skip
    # Inlined, as a function call would cost as much as its work.
    return b"".join(
        (
            _LENGTH[len(raw := event_id.encode())], raw,
            _LENGTH[len(raw := message_id.encode())], raw,
            _EVENT_TYPE[event_type],
            _NONE if event_name is None else _SOME_LENGTH[len(raw := event_name.encode())] + raw,
            _long(occurred_at),
            _instant(received_at),
            _long(sequence),
            _NONE if anonymous_id is None else _SOME_LENGTH[len(raw := anonymous_id.encode())] + raw,
            _NONE if user_id is None else _SOME_LENGTH[len(raw := user_id.encode())] + raw,
            _NONE if client_session_id is None else _SOME_LENGTH[len(raw := client_session_id.encode())] + raw,
            _page(page),
            _strings(campaign) if campaign else _NONE,
            _device(device),
            _NONE if ip is None else _SOME_LENGTH[len(raw := ip.encode())] + raw,
            _booleans(consent) if consent else _NONE,
            _LENGTH[len(raw := write_key.encode())], raw,
            _source(source),
            _NONE if item_id is None else _SOME_LENGTH[len(raw := item_id.encode())] + raw,
            _NONE if list_id is None else _SOME_LENGTH[len(raw := list_id.encode())] + raw,
            _NONE if position is None else _SOME + _long(position),
            _NONE if propensity is None else _SOME + _DOUBLE.pack(propensity),
            _NONE if impression_id is None else _SOME_LENGTH[len(raw := impression_id.encode())] + raw,
            _NONE if model_version is None else _SOME_LENGTH[len(raw := model_version.encode())] + raw,
            _NONE if order_id is None else _SOME_LENGTH[len(raw := order_id.encode())] + raw,
            _NONE if value is None else _SOME + _DOUBLE.pack(value),
            _NONE if currency is None else _SOME_LENGTH[len(raw := currency.encode())] + raw,
            _NONE if quantity is None else _SOME + _long(quantity),
            _strings(experiments) if experiments else _NONE,
            _strings(properties) if properties else _NONE,
            _array(flags) if flags else _NONE,
        )
    )  # fmt: skip


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


# Numbers below 2^14 as they end a varint, and as two bytes of a longer one.
_LAST = [_varint(number) for number in range(_DIGIT)]
_MORE = [bytes((number & 127 | 128, number >> 7 | 128)) for number in range(_DIGIT)]
# Lengths, zigzagged; nearly all strings and maps are this short.
_LENGTH = [_LAST[number << 1] for number in range(_DIGIT >> 1)]
_SOME_LENGTH = [_SOME + length for length in _LENGTH]
_EVENT_TYPE = {name: _LENGTH[index] for index, name in enumerate(EVENT_TYPES)}


def _long(value: int) -> bytes:
    value = value << 1 if value >= 0 else (-value << 1) - 1  # zigzag
    if value < _DIGIT:
        return _LAST[value]
    out = _MORE[value & (_DIGIT - 1)]
    value >>= 14
    while value >= _DIGIT:
        out += _MORE[value & (_DIGIT - 1)]
        value >>= 14
    return out + _LAST[value]


_instant = lru_cache(maxsize=256)(_long)  # one for all events of a request


def _string(value: str) -> bytes:
    raw = value.encode()
    return _LENGTH[len(raw)] + raw


def _optional(value: str | None) -> bytes:
    return _NONE if value is None else _SOME + _string(value)


def _page(page: Page) -> bytes:
    """A page, from the cache unless its URL is long, so that no sender can fill the memory."""
    url, referrer = page.url, page.referrer
    if (url is None or len(url) <= _MAX_CACHED) and (referrer is None or len(referrer) <= _MAX_CACHED):
        return _short_page(page)
    return _short_page.__wrapped__(page)


@lru_cache(maxsize=4096)
def _short_page(page: Page) -> bytes:
    return b"".join((_optional(page.url), _optional(page.path), _optional(page.referrer), _optional(page.title)))


@lru_cache(maxsize=1024)  # few agents make nearly all of the traffic
def _device(device: Device) -> bytes:
    names = (_optional(device.browser), _optional(device.os), _optional(device.type))
    return b"".join(names) + (_TRUE if device.is_bot else _NONE)


@lru_cache(maxsize=256)
def _source(source: Source) -> bytes:
    return _string(source.protocol) + _optional(source.sdk) + _optional(source.run)


def _strings(values: Mapping[str, str]) -> bytes:
    out = [_long(len(values))]
    for name, value in values.items():
        raw, text = name.encode(), value.encode()
        out += (_LENGTH[len(raw)], raw, _LENGTH[len(text)], text)
    out.append(_NONE)
    return b"".join(out)


def _booleans(values: Mapping[str, bool]) -> bytes:
    entries = (_string(name) + (_TRUE if value else _NONE) for name, value in values.items())
    return _long(len(values)) + b"".join(entries) + _NONE


def _array(values: Sequence[str]) -> bytes:
    return _long(len(values)) + b"".join(map(_string, values)) + _NONE
