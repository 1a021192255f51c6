"""Messages of trackers' protocols -> Kafka records: by the protocol's pure function, then as native events. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from ingest.convert.native import Reading, RequestOutcome, record
from ingest.errors import Dropped, InvalidEvent
from ingest.event.message import Message
from ingest.event.rejected import REDACTED, Reject, of_text
from ingest.protocols.commerce import MAX_PRODUCTS
from ingest.protocols.protocol import Protocol


def read(messages: Sequence[Message], protocol: Protocol, reading: Reading, limit: int) -> RequestOutcome:
    """Converts the messages. `limit`: bytes of all records together, as a small message can name many products."""
    outcome = RequestOutcome()
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
                records.append(record(payload, reading, outcome.counts, index))
                room -= len(records[-1].value)
                if room < 0:
                    raise InvalidEvent("message", f"makes the request's events larger than {limit} bytes")
            outcome.records += records
        except (InvalidEvent, Dropped) as error:
            if isinstance(error, InvalidEvent):
                error.field = protocol.sender_field(error.field)
            outcome.refuse(error, message.number, message.payload)
    return outcome


def merge(outcomes: Sequence[RequestOutcome]) -> RequestOutcome:
    """The outcomes as one."""
    whole = RequestOutcome()
    for outcome in outcomes:
        whole.records += outcome.records
        whole.filtered += outcome.filtered
        whole.rejects += outcome.rejects
        whole.counts += outcome.counts
    return whole


def first_key(text: str, key_field: str) -> str | None:
    """The first write key in the text of a truncated body."""
    found = _key_in_text(key_field).search(text)
    return found[1] if found else None


def cut_off(number: int, limit: int, text: str, key_field: str) -> Reject:
    """The reject of a truncated body's rest, from the `number`-th message on, with its write keys redacted."""
    redacted = _key_in_text(key_field).sub(f'"{key_field}":"{REDACTED}', text) if key_field else text
    return of_text(number, "body", f"is larger than {limit} bytes", redacted)


def _key_in_text(key_field: str) -> re.Pattern[str]:
    return re.compile(rf'"{key_field}"\s*:\s*"([^"\\]*)')  # the text may end within the key
