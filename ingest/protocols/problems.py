"""Why a payload is refused: its first wrong field, and a reason without any value that was sent. Pure.

It converts field by field, which is slow, but is called for refused payloads only.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from ingest.errors import InvalidEvent

_PATH = re.compile(r" - at .*$", re.DOTALL)
_SHOWN = 100  # characters of a key that is named


def first_problem(payload: Mapping[str, object], fields: Mapping[str, Any], required: Sequence[str]) -> InvalidEvent:
    """The first problem of a payload with these fields (name -> type), in their order."""
    for name, type_ in fields.items():
        if name not in payload:
            if name in required:
                return InvalidEvent(name, "field required")
        elif (problem := _problem(name, payload[name], type_)) is not None:
            return problem
    return InvalidEvent("event", "is not as the contract says")


def _problem(name: str, value: object, type_: Any) -> InvalidEvent | None:
    try:
        msgspec.convert(value, type_)
    except msgspec.ValidationError as error:
        inner = _problem_within(name, value, type_) if isinstance(value, Mapping) else None
        return inner or InvalidEvent(name, _reason(error))
    return None


def _problem_within(name: str, value: Mapping[Any, object], type_: Any) -> InvalidEvent | None:
    """The wrong entry of an object; None if the object as a whole is wrong."""
    if not _fits({}, type_):
        return None
    for key, inner in value.items():
        try:
            msgspec.convert({key: inner}, type_)
        except msgspec.ValidationError as error:
            return InvalidEvent(f"{name}.{str(key)[:_SHOWN]}", _reason(error))
    return None


def _fits(value: object, type_: Any) -> bool:
    try:
        msgspec.convert(value, type_)
    except msgspec.ValidationError:
        return False
    return True


def _reason(error: msgspec.ValidationError) -> str:
    """msgspec's words without the path; of an enumeration it would repeat the value."""
    text = _PATH.sub("", str(error))
    if text.startswith("Invalid enum value"):
        return "is none of the names that it may have"
    return text[0].lower() + text[1:]


def first_surrogate(payload: Mapping[str, object]) -> InvalidEvent:
    """The first field with a lone surrogate, which JSON allows as an escape and UTF-8 can't encode."""
    for name, value in payload.items():
        if isinstance(value, str) and _has_surrogate(value):
            return InvalidEvent(name, "is no valid Unicode")
        if isinstance(value, Mapping) and name != "properties":  # these are escaped again
            for key, inner in value.items():
                if _has_surrogate(str(key)) or (isinstance(inner, str) and _has_surrogate(inner)):
                    return InvalidEvent(name, "holds what is no valid Unicode")
    return InvalidEvent("event", "holds what is no valid Unicode")


def _has_surrogate(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text)
