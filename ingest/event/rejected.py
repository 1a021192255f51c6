"""Records of `clicks.rejected`: why a message was refused, its write key, and its payload without private data. Pure.

{id, reason, field, write_key, source: {protocol, run}, received_at, payload}, and optionally sent_at (the batch's, ms),
line, truncated, messages (the number of messages in payload, then an array). ingest/rejects/stored.py makes it ready to
be sent again.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ingest.event import enrich
from ingest.event.event import new_message_id
from ingest.event.scrub import change_base64, change_json, is_encoded

REDACTED = "[redacted]"
MAX_PAYLOAD = 200_000  # characters; up to 4 bytes each must stay below Kafka's limit of a record
_EMAIL = re.compile(
    r"(?<![A-Za-z0-9._+-])[A-Za-z0-9._+-]+(?:@|%40)[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+"
)  # linear: starts at a word's start
_IPV4 = re.compile(r"\b(\d{1,3}\.\d{1,3}\.\d{1,3})\.\d{1,3}\b")
_TOO_DEEP = "[nested too deeply]"
_KEY = re.compile(r'"((?:write|api)[-_]?key)"\s*:\s*"[^"\\]*', re.IGNORECASE)  # its end may be cut off
_PRIVATE = re.compile(
    r"e[-_]?mail|phone|passw|secret|(write|api)[-_]?key|(^|[-_])token$|user[-_]?agent|^ua$|ip[-_]?addr|(^|[-_$])ip$",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Reject:
    """One refused message. `number` is its index in the batch, or its line; `payload` is unredacted.

    `quarantined`: the sender isn't told (see Quarantined; also an unknown write key, by the settings). `messages`: the
    payload is a list of so many messages, refused together, of which `number` is the first. `truncated`: the payload is
    a text that was cut already.
    """

    number: int
    field: str
    reason: str
    payload: object
    quarantined: bool = False
    messages: int = 0
    truncated: bool = False

    @property
    def count(self) -> int:
        """The number of messages that it stands for."""
        return self.messages or 1


def of_text(number: int, field: str, reason: str, text: str) -> Reject:
    """The reject of a text that is no JSON, redacted and cut to MAX_PAYLOAD."""
    kept = _KEY.sub(rf'"\1":"{REDACTED}', redact_line(text[:MAX_PAYLOAD]))
    return Reject(number, field, reason, kept, truncated=len(text) > MAX_PAYLOAD)


def encode(
    reject: Reject,
    *,
    write_key: str,
    protocol: str,
    run: str | None,
    received_at: int,
    is_line: bool,
    sent_at: int | None = None,
    scrub: Callable[[Any], Any] | None = None,
) -> list[bytes]:
    """The values of a reject's records (UTF-8 JSON): one, or as few as hold its messages.

    `scrub` removes what the privacy settings forbid to store.
    """
    head: dict[str, Any] = {
        "reason": reject.reason,
        "field": reject.field,
        "write_key": write_key,
        "source": {"protocol": protocol, "run": run},
        "received_at": received_at,
        **({"sent_at": sent_at} if sent_at is not None else {}),
        **({"line": reject.number} if is_line else {}),
        **({"truncated": True} if reject.truncated else {}),
    }

    def kept(payload: object) -> object:
        try:
            return redact(scrub(payload) if scrub else payload)
        except RecursionError:  # sooner than in json.dumps, which needs less for each level
            return _TOO_DEEP

    if not reject.messages or not isinstance(reject.payload, list):
        return [_value(head, kept(reject.payload))]
    parts = _parts([kept(message) if message else message for message in reject.payload])
    return [_value(head | {"messages": len(part)}, part) for part in parts]


def _value(head: Mapping[str, Any], payload: object) -> bytes:
    text = json.dumps(payload)
    is_long = len(text) > MAX_PAYLOAD
    is_cut = is_long or payload == _TOO_DEEP or (isinstance(payload, list) and _TOO_DEEP in payload)
    document = {"id": new_message_id(), **head, **({"truncated": True} if is_cut else {})}
    return json.dumps({**document, "payload": text[:MAX_PAYLOAD] if is_long else payload}).encode()


def _parts(messages: list[object]) -> list[list[object]]:
    """The messages in parts of at most MAX_PAYLOAD characters, unless a single message has more."""
    size = len(json.dumps(messages))
    if size <= MAX_PAYLOAD or len(messages) == 1:
        return [messages]
    wanted = 1 + size * 11 // (MAX_PAYLOAD * 10)  # a tenth to spare, as messages differ in length
    step = math.ceil(len(messages) / wanted)
    return [part for at in range(0, len(messages), step) for part in _parts(messages[at : at + step])]


def redact(value: object) -> object:
    """JSON without addresses, agents, secrets and e-mails; an IP is anonymised, so that it can be sent again."""
    if isinstance(value, dict):
        return {name: _redact_field(str(name), inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [redact(inner) for inner in value]
    if isinstance(value, str):
        inner = change_json(value, redact) if value[:1] in ("{", "[") else None
        return _EMAIL.sub(REDACTED, value if inner is None else inner)
    return value


def redact_line(line: str) -> str:
    """A raw line without e-mails and with its addresses anonymised."""
    host, space, rest = line.partition(" ")
    try:
        host = enrich.anonymize_ip(host)
    except ValueError:
        host = _IPV4.sub(r"\1.0", host)
    return _EMAIL.sub(REDACTED, host + space + _IPV4.sub(r"\1.0", rest))


def _redact_field(name: str, value: object) -> object:
    if isinstance(value, str) and is_encoded(name):
        inner = change_base64(value, redact)
        return redact(value) if inner is None else inner
    if value is None or not _PRIVATE.search(name):
        return redact(value)
    if name.lower().removeprefix("$") == "ip" and isinstance(value, str):
        try:
            return enrich.anonymize_ip(value)
        except ValueError:
            return REDACTED
    return REDACTED
