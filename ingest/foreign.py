"""Messages of others' protocols -> Kafka records: by the protocol's pure function, then as native events. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ingest.body import Message
from ingest.commerce import MAX_PRODUCTS
from ingest.errors import Dropped, InvalidEvent
from ingest.intake import Intake, Reading, record
from ingest.protocols import Context, pixel, posthog, segment, snowplow, values
from ingest.rejected import REDACTED, Reject, of_text

_DATA = re.compile(r'"data"\s*:\s*\[')
_AID = re.compile(r'"aid"\s*:\s*"([^"\\]*)')  # its end may be cut off


@dataclass(frozen=True, slots=True)
class Protocol:
    """`read`: a message -> native payloads; `fields`: a native field -> what the sender calls it."""

    name: str
    read: Callable[[Mapping[str, Any], Context], list[dict[str, Any]]]
    fields: Mapping[str, str]


SEGMENT = Protocol("segment", segment.read, segment.FIELDS)
SNOWPLOW = Protocol("snowplow", snowplow.read, snowplow.FIELDS)
POSTHOG = Protocol("posthog", posthog.read, posthog.FIELDS)
PIXEL = Protocol("pixel", pixel.read, {})


def read(messages: Sequence[Message], protocol: Protocol, reading: Reading, limit: int) -> Intake:
    """The records of all good messages. `limit`: their bytes together, as few bytes can name many products."""
    intake = Intake()
    room = limit
    for message in messages:
        try:
            if not isinstance(message.payload, Mapping):
                raise InvalidEvent("message", "is no JSON object")
            payloads = protocol.read(message.payload, reading.context)
            records = []
            for index, payload in enumerate(payloads):
                payload.setdefault("sequence", message.number * MAX_PRODUCTS + index)
                if reading.browser is None or not reading.browser.names:
                    payload.setdefault("anonymous_id", None)
                records.append(record(payload, reading, intake.counts, index))
                room -= len(records[-1].value)
                if room < 0:
                    raise InvalidEvent("message", f"makes the request's events larger than {limit} bytes")
            intake.records += records
        except (InvalidEvent, Dropped) as error:
            if isinstance(error, InvalidEvent):
                error.field = protocol.fields.get(error.field, error.field)
            intake.refuse(error, message.number, message.payload)
    return intake


def merge(intakes: Sequence[Intake]) -> Intake:
    """One account of all."""
    whole = Intake()
    for intake in intakes:
        whole.records += intake.records
        whole.filtered += intake.filtered
        whole.rejects += intake.rejects
        whole.counts += intake.counts
    return whole


def read_object(raw: bytes) -> dict[str, Any]:
    """The object that a body is. Raises InvalidEvent."""
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


def read_cut(raw: bytes, at_most: int) -> tuple[list[Any], str]:
    """Of a Snowplow body that was cut: the first whole elements of its data, and the text that is left."""
    text = raw.decode(errors="backslashreplace")
    start = _DATA.search(text)
    if start is None:
        return [], text
    try:
        elements, end = values.parse_cut_array(text, start.end(), at_most)
    except ValueError:
        return [], text
    return elements, text[end:]


def app_id(text: str) -> str | None:
    """The app id in the text of an event that was cut."""
    found = _AID.search(text)
    return found[1] if found else None


def cut_off(number: int, limit: int, text: str) -> Reject:
    """What was beyond the limit, from the `number`-th message on; without the app ids, which are keys."""
    return of_text(number, "body", f"is larger than {limit} bytes", _AID.sub(f'"aid":"{REDACTED}', text))
