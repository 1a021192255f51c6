"""Messages and log lines -> Kafka records, with an account of each: accepted, filtered or rejected. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from ingest import access_log, codec, rejected
from ingest.body import Message, Messages
from ingest.errors import InvalidEvent
from ingest.protocols import Context, native
from ingest.protocols.problems import first_surrogate
from ingest.rejected import Reject
from ingest.spool import Record

MAX_ERRORS = 100  # listed in an answer; the counts are of all
MAX_VALUE_BYTES = 900_000  # Kafka's default limit of a record is 1 MB


@dataclass(slots=True)
class Intake:
    """What became of one request; records, filtered and rejects together are as many as it held."""

    records: list[Record] = field(default_factory=list)
    filtered: Counter[str] = field(default_factory=Counter)
    rejects: list[Reject] = field(default_factory=list)


def read_native(messages: Messages, context: Context, topic: str, file: str | None = None) -> Intake:
    """Native events. `file`: the messages are its lines, and their ids come from there when they have none."""
    intake = Intake()
    for message in messages.messages:
        if messages.kind == "lines" and not message.text.strip():
            intake.filtered["blank"] += 1
            continue
        try:
            payload = _payload(message, file)
            intake.records.append(record(payload, context, topic))
        except InvalidEvent as error:
            original = message.payload if message.problem is None else rejected.redact_line(message.text)
            intake.rejects.append(Reject(message.number, error.field, error.reason, original))
    return intake


def read_access_log(lines: Sequence[str], first_line: int, file: str, context: Context, topic: str) -> Intake:
    """Lines of an access log, numbered from `first_line`."""
    intake = Intake()
    for number, line in enumerate(lines, first_line):
        outcome = access_log.parse(line, number, file)
        if isinstance(outcome, access_log.Filtered):
            intake.filtered[outcome.reason] += 1
            continue
        try:
            if isinstance(outcome, access_log.Rejected):
                raise InvalidEvent(outcome.field, outcome.reason)
            intake.records.append(record(outcome.payload, context, topic))
        except InvalidEvent as error:
            intake.rejects.append(Reject(number, error.field, error.reason, rejected.redact_line(line)))
    return intake


def account(result: Intake, number: str = "index") -> dict[str, object]:
    """What became of a request, for its answer."""
    reasons = Counter(f"{reject.field}: {reject.reason}" for reject in result.rejects)
    errors = [
        {number: reject.number, "field": reject.field, "reason": reject.reason}
        for reject in result.rejects[:MAX_ERRORS]
    ]
    return {"accepted": len(result.records), "filtered": result.filtered, "rejected": reasons, "errors": errors}


def _payload(message: Message, file: str | None) -> dict[str, object]:
    if message.problem is not None:
        raise InvalidEvent("line", message.problem)
    payload = message.payload
    if not isinstance(payload, dict):
        raise InvalidEvent("event", "is no JSON object")
    if "write_key" in payload:  # a secret
        payload = {name: value for name, value in payload.items() if name != "write_key"}
    if file is None:
        return payload
    payload = {"sequence": message.number, **payload}
    if not payload.get("message_id"):
        payload["message_id"] = access_log.message_id(file, message.number, message.text)
    return payload


def record(payload: dict[str, object], context: Context, topic: str, index: int = 0) -> Record:
    """The Kafka record of a native payload, the `index`-th of its message. Raises InvalidEvent."""
    try:
        event = native.parse(payload, context, index)
        value = codec.encode(event)
        key = event.key
    except RecursionError:
        raise InvalidEvent("event", "is nested too deeply") from None
    except UnicodeEncodeError:
        raise first_surrogate(payload) from None
    if len(value) > MAX_VALUE_BYTES:
        raise InvalidEvent("event", f"is larger than {MAX_VALUE_BYTES} bytes")
    return Record(topic, key, value)
