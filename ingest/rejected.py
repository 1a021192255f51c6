"""What is refused, as a record for `clicks.rejected`: why, whose, and the payload without private data. Pure.

{id, reason, field, write_key, source: {protocol, run}, received_at, payload}, and where they say something sent_at (the
batch's, ms), line, truncated. That is enough to send it again: see ingest/kept.py.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ingest import enrich
from ingest.events import new_message_id
from ingest.scrub import change_base64, change_json, is_encoded

REDACTED = "[redacted]"
MAX_PAYLOAD = 200_000  # characters; up to 4 bytes each must stay below Kafka's limit of a record
_EMAIL = re.compile(
    r"(?<![A-Za-z0-9._+-])[A-Za-z0-9._+-]+(?:@|%40)[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+"
)  # linear: starts at a word's start
_IPV4 = re.compile(r"\b(\d{1,3}\.\d{1,3}\.\d{1,3})\.\d{1,3}\b")
_PRIVATE = re.compile(
    r"e[-_]?mail|phone|passw|secret|(write|api)[-_]?key|(^|[-_])token$|user[-_]?agent|^ua$|ip[-_]?addr|(^|[-_$])ip$",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Reject:
    """One refused message. `number` is its index in the batch, or its line; `payload` is unredacted.

    Of one that is only kept aside (Quarantined, or of an unknown key where settings say so) the sender isn't told.
    """

    number: int
    field: str
    reason: str
    payload: object
    quarantined: bool = False


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
    record_id: str | None = None,
) -> bytes:
    """The value of its record: UTF-8 JSON. `scrub` takes out what the privacy settings forbid to keep."""
    document: dict[str, Any] = {
        "id": record_id or new_message_id(),
        "reason": reject.reason,
        "field": reject.field,
        "write_key": write_key,
        "source": {"protocol": protocol, "run": run},
        "received_at": received_at,
        **({"sent_at": sent_at} if sent_at is not None else {}),
        **({"line": reject.number} if is_line else {}),
    }
    try:
        payload = redact(scrub(reject.payload) if scrub else reject.payload)
        text = json.dumps(payload)
    except RecursionError:
        payload, text = "[nested too deeply]", ""
        document["truncated"] = True
    if len(text) > MAX_PAYLOAD:
        payload, document["truncated"] = text[:MAX_PAYLOAD], True
    return json.dumps(document | {"payload": payload}).encode()


def redact(value: object) -> object:
    """JSON without addresses, agents, secrets and e-mails; an IP keeps its network, so it can be sent again."""
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
