"""Native messages and log lines -> Kafka records, each accepted, filtered or rejected. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ingest.delivery.record import Record
from ingest.errors import Dropped, InvalidEvent, Quarantined
from ingest.event import codec, rejected
from ingest.event.context import Context
from ingest.event.identity import Browser, with_visitor
from ingest.event.message import Message, Messages
from ingest.event.rejected import Reject
from ingest.policy.pipeline import EventPolicy
from ingest.protocols import access_log, native
from ingest.protocols.problems import first_surrogate

MAX_ERRORS = 100  # listed in an answer; the counts are of all
MAX_VALUE_BYTES = 900_000  # Kafka's default limit of a record is 1 MB


@dataclass(slots=True)
class RequestOutcome:
    """The outcome of each message of one request: a record, filtered, or rejected.

    `counts`: how often privacy rules and the tracking plan applied.
    """

    records: list[Record] = field(default_factory=list)
    filtered: Counter[str] = field(default_factory=Counter)
    rejects: list[Reject] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def refuse(self, error: InvalidEvent | Dropped, number: int, payload: object) -> None:
        """Adds a message that gives no event. One that its visitor wants no record of is only counted."""
        if isinstance(error, Dropped):
            self.filtered[error.reason] += 1
        else:
            self.rejects.append(Reject(number, error.field, error.reason, payload, isinstance(error, Quarantined)))

    def raise_refused(self) -> None:
        """Raises InvalidEvent if a message was refused, unless it is quarantined; for requests of one message."""
        for reject in self.rejects:
            if not reject.quarantined:
                raise InvalidEvent(reject.field, reject.reason)


@dataclass(frozen=True, slots=True)
class Reading:
    """Everything that converting one request's messages needs: its context, the rules, and its browser's ids."""

    context: Context
    topic: str
    policy: EventPolicy
    browser: Browser | None = None


def read_native(messages: Messages, reading: Reading, file: str | None = None) -> RequestOutcome:
    """Converts native messages. `file`: they are lines of this file, from which missing message ids are derived."""
    outcome = RequestOutcome()
    for message in messages.messages:
        if messages.kind == "lines" and not message.text.strip():
            outcome.filtered["blank"] += 1
            continue
        try:
            payload = _payload(message, file)
            outcome.records.append(record(payload, reading, outcome.counts))
        except (InvalidEvent, Dropped) as error:
            original = message.payload if message.problem is None else rejected.redact_line(message.text)
            outcome.refuse(error, message.number, original)
    return outcome


def read_access_log(lines: Sequence[str], first_line: int, file: str, reading: Reading) -> RequestOutcome:
    """Converts the lines of an access log, numbered from `first_line`."""
    outcome = RequestOutcome()
    for number, line in enumerate(lines, first_line):
        read = access_log.parse(line, number, file)
        if isinstance(read, access_log.Filtered):
            outcome.filtered[read.reason] += 1
            continue
        try:
            if isinstance(read, access_log.Rejected):
                raise InvalidEvent(read.field, read.reason)
            outcome.records.append(record(read.payload, reading, outcome.counts))
        except (InvalidEvent, Dropped) as error:
            outcome.refuse(error, number, rejected.redact_line(line))
    return outcome


def account(result: RequestOutcome, number: str = "index") -> dict[str, object]:
    """The counts and errors of a request for its answer; without the quarantined, which the sender can't mend."""
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

    Adds to `counts` how often privacy rules applied.
    """
    try:
        if reading.browser is not None:
            payload = with_visitor(payload, reading.browser)
        payload, context = reading.policy.apply(payload, reading.context, counts)
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
