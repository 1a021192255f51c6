"""Messages and log lines -> Kafka records, with an account of each: accepted, filtered or rejected. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ingest import access_log, codec, rejected
from ingest.body import Message, Messages
from ingest.errors import Dropped, InvalidEvent, Quarantined
from ingest.gate import Gate
from ingest.identity import Browser, with_visitor
from ingest.protocols import Context, native
from ingest.protocols.problems import first_surrogate
from ingest.rejected import Reject
from ingest.spool import Record

MAX_ERRORS = 100  # listed in an answer; the counts are of all
MAX_VALUE_BYTES = 900_000  # Kafka's default limit of a record is 1 MB


@dataclass(slots=True)
class Intake:
    """What became of one request; records, filtered and the rejects' counts together are as many as it held.

    `counts`: what the rules of privacy and the tracking plan did.
    """

    records: list[Record] = field(default_factory=list)
    filtered: Counter[str] = field(default_factory=Counter)
    rejects: list[Reject] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def refuse(self, error: InvalidEvent | Dropped, number: int, payload: object) -> None:
        """A message that gives no event: what its visitor wants no record of is counted and no more."""
        if isinstance(error, Dropped):
            self.filtered[error.reason] += 1
        else:
            self.rejects.append(Reject(number, error.field, error.reason, payload, isinstance(error, Quarantined)))

    def raise_refused(self) -> None:
        """InvalidEvent when a message is refused and its sender is to know: for requests of one message."""
        for reject in self.rejects:
            if not reject.quarantined:
                raise InvalidEvent(reject.field, reject.reason)


@dataclass(frozen=True, slots=True)
class Reading:
    """With what the messages of one request are read: what it says of all, the rules, and its browser's ids."""

    context: Context
    topic: str
    gate: Gate
    browser: Browser | None = None


def read_native(messages: Messages, reading: Reading, file: str | None = None) -> Intake:
    """Native events. `file`: the messages are its lines, and their ids come from there when they have none."""
    intake = Intake()
    for message in messages.messages:
        if messages.kind == "lines" and not message.text.strip():
            intake.filtered["blank"] += 1
            continue
        try:
            payload = _payload(message, file)
            intake.records.append(record(payload, reading, intake.counts))
        except (InvalidEvent, Dropped) as error:
            original = message.payload if message.problem is None else rejected.redact_line(message.text)
            intake.refuse(error, message.number, original)
    return intake


def read_access_log(lines: Sequence[str], first_line: int, file: str, reading: Reading) -> Intake:
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
            intake.records.append(record(outcome.payload, reading, intake.counts))
        except (InvalidEvent, Dropped) as error:
            intake.refuse(error, number, rejected.redact_line(line))
    return intake


def account(result: Intake, number: str = "index") -> dict[str, object]:
    """What became of a request, for its answer. What is quarantined is our business: the sender can't mend it."""
    told = [reject for reject in result.rejects if not reject.quarantined]
    reasons: Counter[str] = Counter()
    for reject in told:
        reasons[f"{reject.field}: {reject.reason}"] += reject.count
    errors = [{number: reject.number, "field": reject.field, "reason": reject.reason} for reject in told[:MAX_ERRORS]]
    facts = {"accepted": len(result.records), "filtered": result.filtered, "rejected": reasons, "errors": errors}
    if len(told) < len(result.rejects):
        facts["quarantined"] = sum(reject.count for reject in result.rejects if reject.quarantined)
    return facts


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


def record(payload: Mapping[str, object], reading: Reading, counts: Counter[str], index: int = 0) -> Record:
    """The Kafka record of a native payload, the `index`-th of its message. Raises InvalidEvent, Dropped.

    `counts` grows by what the rules of privacy took away.
    """
    try:
        if reading.browser is not None:
            payload = with_visitor(payload, reading.browser)
        payload, context = reading.gate.pass_(payload, reading.context, counts)
        if not context.write_key:
            raise Quarantined("write_key", "is unknown")
        event = native.parse(payload, context, index)
        value = codec.encode(event)
        key = event.key
    except RecursionError:
        raise InvalidEvent("event", "is nested too deeply") from None
    except UnicodeEncodeError:
        raise first_surrogate(payload) from None
    if len(value) > MAX_VALUE_BYTES:
        raise InvalidEvent("event", f"is larger than {MAX_VALUE_BYTES} bytes")
    return Record(reading.topic, key, value)
