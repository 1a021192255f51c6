"""Bodies of trackers' requests: an object, a batch of messages, and what can be read of a body that was cut. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from ingest.errors import InvalidEvent
from ingest.protocols import values

_SHARED = ("context", "integrations")  # of a batch, beside its messages


def read_object(raw: bytes) -> dict[str, Any]:
    """The JSON object that a body is. Raises InvalidEvent."""
    if not raw.strip():
        raise InvalidEvent("body", "is empty")
    try:
        document = values.parse_json(raw.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise InvalidEvent("body", "is not UTF-8") from None
    except ValueError:
        raise InvalidEvent("body", "is not JSON") from None
    if not isinstance(document, dict):
        raise InvalidEvent("body", "is no JSON object")
    return document


def array(document: Mapping[str, Any], field: str) -> list[Any]:
    """The array in `field`. Raises InvalidEvent."""
    found = document.get(field)
    if not isinstance(found, list):
        raise InvalidEvent(field, "is missing" if found is None else "is no array")
    return found


def batch(document: Mapping[str, Any], max_bytes: int) -> list[Any]:
    """The messages of {"batch": […], "context": {…}}, each with what the batch says of all of them.

    Raises InvalidEvent, also where that would be more than `max_bytes` in all.
    """
    given = document.get("batch")
    if not isinstance(given, list):
        raise InvalidEvent("batch", "is no array" if "batch" in document else "is missing")
    shared = {name: document[name] for name in _SHARED if isinstance(document.get(name), dict)}
    if shared and len(json.dumps(shared)) * len(given) > max_bytes:  # a few bytes, repeated in each message
        raise InvalidEvent(next(iter(shared)), f"makes the request's events larger than {max_bytes} bytes")
    return [_joined(message, shared) for message in given] if shared else given


def _joined(payload: object, shared: Mapping[str, Mapping[str, Any]]) -> object:
    """A message with the batch's fields; its own win."""
    if not isinstance(payload, Mapping):
        return payload
    own = {name: payload.get(name) for name in shared}
    merged = {
        name: {**value, **(given or {})}
        for name, value in shared.items()
        if (given := own[name]) is None or isinstance(given, Mapping)
    }
    return {**payload, **merged}


def cut_array(field: str) -> Callable[[bytes, int], tuple[list[Any], str]]:
    """A reader of a JSON body that was cut: the first whole elements of the array in `field`, and the text left."""
    begin = re.compile(rf'"{field}"\s*:\s*\[')

    def read(raw: bytes, at_most: int) -> tuple[list[Any], str]:
        text = raw.decode(errors="backslashreplace")
        start = begin.search(text)
        if start is None:
            return [], text
        try:
            elements, end = values.parse_cut_array(text, start.end(), at_most)
        except ValueError:
            return [], text
        return elements, text[end:]

    return read
