"""Converters of trackers' loosely typed values: numbers as text, times without a zone, ids as numbers. Pure."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, NoReturn

from ingest.errors import InvalidEvent
from ingest.event import enrich
from ingest.event.event import to_millis
from ingest.event.times import parse_time

_CURRENCY = re.compile(r"[A-Za-z]{3}")
_ZONE = re.compile(r"(?:[Zz]|[+-]\d\d:?\d\d)$")
_BETWEEN = re.compile(r"[\s,]*")
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_INT32 = 2**31 - 1


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


_decoder = json.JSONDecoder(parse_constant=_no_constant)


def strict_json(text: str) -> Any:
    """The value of a JSON text. Raises ValueError, also for NaN and for deep nesting."""
    try:
        return _decoder.decode(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def parse_json(text: str) -> Any:
    """The value of a JSON text, in which a lone surrogate becomes U+FFFD. Raises ValueError.

    Browsers send one if a script has cut an emoji; UTF-8 can't encode it.
    """
    return _in_utf8(strict_json(text), text)


def parse_cut_array(text: str, start: int, at_most: int) -> tuple[list[Any], int]:
    """The whole elements of a truncated array, and the position after them. Raises ValueError."""
    elements: list[Any] = []
    position = start
    while begin := _BETWEEN.match(text, position):
        position = begin.end()
        if len(elements) == at_most:
            break
        try:
            element, position = _decoder.raw_decode(text, position)
        except (ValueError, RecursionError):
            break
        elements.append(element)
    return _in_utf8(elements, text[start:position]), position


def _in_utf8(value: Any, text: str) -> Any:
    """The value of this text without lone surrogates. Raises ValueError."""
    if not _SURROGATE.search(text):
        return value
    try:
        whole = json.dumps(value, ensure_ascii=False)
        return json.loads(whole.encode("utf-16", "surrogatepass").decode("utf-16", "replace"))
    except RecursionError:
        raise ValueError("nested too deeply") from None


def mapping(value: object, field: str) -> Mapping[str, Any]:
    """An object; empty for None. Raises InvalidEvent if it is something else."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise InvalidEvent(field, "is no object")
    return value


def text(value: object, field: str) -> str | None:
    """A string, or a number as a string; None for None and "". Raises InvalidEvent for all else."""
    if value is None or value == "":
        return None
    if isinstance(value, str):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    raise InvalidEvent(field, "is no string")


def loose_text(value: object) -> str | None:
    """The same, but None for all else, in fields that are not worth refusing an event."""
    try:
        return text(value, "")
    except InvalidEvent:
        return None


def number(value: object) -> float | None:
    """A finite number, or one in a string; None for all else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str) or (isinstance(value, str) and "_" in value):
        return None
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None


def count(value: object) -> int | None:
    """A whole number from 0 to 2^31 - 1, or one in a string; None for all else."""
    found = number(value)
    return int(found) if found is not None and found.is_integer() and 0 <= found <= _INT32 else None


def currency(value: object) -> str | None:
    """Three letters; None for all else."""
    return value if isinstance(value, str) and _CURRENCY.fullmatch(value) else None


def millis(value: object, field: str) -> int | None:
    """Milliseconds since 1970 of an ISO 8601 time (UTC if it has no zone) or of a number; None for None and "".

    Raises InvalidEvent.
    """
    if value is None or value == "":
        return None
    try:
        if isinstance(value, str) and not _ZONE.search(value):
            return parse_time(to_millis(datetime.fromisoformat(value + "+00:00" if "T" in value else value + "T00Z")))
        return parse_time(value)
    except ValueError as error:
        reason = str(error) if str(error).startswith(("is ", "lies ")) else "is neither ISO 8601 nor milliseconds"
        raise InvalidEvent(field, reason) from None


def ip(value: object) -> str | None:
    """An IP address; None for all else."""
    if not isinstance(value, str) or not value:
        return None
    try:
        return enrich.normalize_ip(value)
    except ValueError:
        return None


def rest(given: Mapping[str, Any], used: Iterable[str], prefix: str) -> dict[str, Any]:
    """Prefixed name -> value of an envelope's fields that are not in `used`, without null and empty values."""
    taken = set(used)
    return {
        f"{prefix}{name}": value
        for name, value in given.items()
        if name not in taken and value is not None and value != {} and value != [] and value != ""
    }


def join(properties: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """Both; if a name is in both, the value of `more` gets the name with an apostrophe."""
    joined = dict(properties)
    for name, value in more.items():
        while name in joined:
            name += "'"
        joined[name] = value
    return joined


def sdk(name: object, version: object) -> str | None:
    """ "name/version" of a tracker's library."""
    parts = [part for part in (loose_text(name), loose_text(version)) if part]
    return "/".join(parts)[:256] or None


def query_texts(message: Mapping[str, Any]) -> dict[str, str]:
    """A message as parameters of a URL; what is no text becomes JSON."""
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in message.items()}
