"""Reads rejects from `clicks.rejected`, sends their messages to the collector again, and counts the outcomes."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Literal, get_args

from infra.errors import ServiceError
from infra.settings import Settings
from ingest.errors import InvalidEvent
from ingest.event.context import Context
from ingest.protocols import PROTOCOLS, native
from ingest.protocols.protocol import Resend
from ingest.rejects.stored import RUN, Edit, Ready, Selection, StoredReject, prepare
from ingest.tools.replay import MAX_BATCH_BYTES, CollectorClient
from ingest.tools.tail import tail

MessageOutcome = Literal["accepted", "quarantined", "rejected", "unusable", "unchecked"]
BATCH = 100  # as many as the collector names errors of


@dataclass(slots=True)
class Account:
    """The outcomes of the selected rejects' messages. `repeated`: older rejects of a message that has a newer one.

    Outcomes: `unusable` rejects don't hold the whole message; `unchecked` ones, in a dry run, only the collector could
    check.
    """

    selected: int = 0
    repeated: int = 0
    outcomes: Counter[MessageOutcome] = field(default_factory=Counter)
    problems: Counter[tuple[MessageOutcome, str]] = field(default_factory=Counter)

    def add(self, outcome: MessageOutcome, problem: str = "") -> None:
        self.outcomes[outcome] += 1
        if problem:
            self.problems[outcome, problem] += 1

    def facts(self) -> dict[str, Any]:
        return {
            "selected": self.selected,
            "repeated": self.repeated,
            **{outcome: self.outcomes[outcome] for outcome in get_args(MessageOutcome)},
            "problems": [
                {"outcome": outcome, "problem": problem, "records": count}
                for (outcome, problem), count in self.problems.most_common()
            ],
        }


def read(settings: Settings, selection: Selection) -> Iterator[StoredReject]:
    """The selected rejects, oldest first, up to the topic's current end. Raises ServiceError."""
    for seen in tail(settings, settings.kafka.rejected_topic, from_beginning=True, follow=False):
        stored = StoredReject.read(seen.partition, seen.offset, seen.value)
        if not seen.problem and selection.matches(stored):
            yield stored


def reinject(
    client: CollectorClient | None,
    settings: Settings,
    records: Iterable[StoredReject],
    edits: Sequence[Edit] = (),
    as_key: str | None = None,
    progress: Callable[[Account], None] = lambda account: None,
) -> Account:
    """Sends the rejects again, under their own keys or `as_key`; a dry run if `client` is None.

    Of several rejects of one message only the newest is sent. Raises ServiceError if the collector is away.
    """
    account = Account()
    ready = _ready(records, edits, account)

    def route(one: Ready) -> tuple[str, str, str]:
        return one.stored.protocol, as_key or one.stored.write_key, one.stored.run or RUN

    for (protocol, key, run), group in groupby(sorted(ready, key=route), route):
        messages = list(group)
        write_key = settings.collector.write_keys.get(key)
        if write_key is None:
            for _ in messages:
                account.add("unusable", f"write_key: {key or 'none'} is not in the settings (--as-key)")
            continue
        for batch in _batches(messages, BATCH if PROTOCOLS[protocol].batch_path else 1):
            if client is None:
                _judge(batch, key, run, account)
            else:
                _send(client, batch, write_key.secret, run, account)
            progress(account)
    return account


def _ready(records: Iterable[StoredReject], edits: Sequence[Edit], account: Account) -> list[Ready]:
    """The messages that can be sent, one each."""
    newest: dict[tuple[str, str, str], Ready] = {}
    for stored in (one for record in records for one in record.apart()):
        account.selected += 1
        try:
            ready = prepare(stored, edits)
        except InvalidEvent as error:
            account.add("unusable", str(error))
            continue
        place = (stored.protocol, stored.write_key, ready.message_id)
        account.repeated += place in newest
        newest[place] = ready
    return list(newest.values())


def _batches(messages: Sequence[Ready], size: int) -> Iterator[list[Ready]]:
    """Batches of at most `size` messages and about MAX_BATCH_BYTES."""
    batch: list[Ready] = []
    room = MAX_BATCH_BYTES
    for ready in messages:
        length = len(json.dumps(ready.message))
        if batch and (len(batch) >= size or length > room):
            yield batch
            batch, room = [], MAX_BATCH_BYTES
        batch.append(ready)
        room -= length
    if batch:
        yield batch


def _judge(batch: Sequence[Ready], key: str, run: str, account: Account) -> None:
    """Checks native messages in a dry run; others only the collector could check."""
    for ready in batch:
        try:
            if ready.stored.protocol != native.PROTOCOL.name:
                account.add("unchecked")
                continue
            native.parse(ready.message, Context(write_key=key, received_at=ready.stored.received_at, run=run))
            account.add("accepted")
        except InvalidEvent as error:
            account.add("rejected", str(error))


def _send(client: CollectorClient, batch: Sequence[Ready], secret: str, run: str, account: Account) -> None:
    again = _request([one.message for one in batch], batch[0].stored, run)
    response = client.request(again.method, again.path, headers={"X-Write-Key": secret}, **again.options)
    if response.status_code == 400 and len(batch) == 1:
        answer = _json(response.content)
        account.add("rejected", f"{answer.get('field')}: {answer.get('reason')}")
        return
    if response.status_code == 401:
        raise ServiceError("collector", "refuses the write key (CLICKSTREAM_COLLECTOR__WRITE_KEYS)")
    if not response.ok:
        raise ServiceError("collector", f"answers {response.status_code} at {again.path}: {response.text[:200]}")
    answer = _json(response.content)
    refused, aside = answer.get("errors") or [], int(answer.get("quarantined") or 0)
    for error in refused:
        account.add("rejected", f"{error.get('field')}: {error.get('reason')}")
    account.outcomes["quarantined"] += aside
    account.outcomes["accepted"] += len(batch) - len(refused) - aside


def _request(messages: Sequence[Any], stored: StoredReject, run: str) -> Resend:
    """The request that sends messages of this protocol."""
    protocol = PROTOCOLS[stored.protocol]
    if protocol.resend is not None:
        return protocol.resend(messages[0], run, stored.line)
    return Resend("POST", protocol.batch_path, {"params": {"run": run}, "json": {"batch": list(messages)}})


def _json(raw: bytes) -> Mapping[str, Any]:
    """An answer's JSON object; empty if it is none, as a pixel's."""
    try:
        answer = json.loads(raw)
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}
