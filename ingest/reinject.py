"""Reads `clicks.rejected`, and sends what it keeps through the collector's doors again, with an account of each."""

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
from ingest.kept import RUN, Edit, Kept, Ready, Selection, prepare
from ingest.protocols import Context, native
from ingest.replay import MAX_BATCH_BYTES, CollectorClient
from ingest.tail import tail

Outcome = Literal["accepted", "quarantined", "rejected", "unusable", "unchecked"]
BATCH = 100  # as many as the collector names errors of
MAX_QUERY = 4000  # characters; Snowplow's longer events go by POST, whose answer tells nothing of them
_SNOWPLOW = "/com.snowplowanalytics.snowplow/tp2"
_SCHEMA = "iglu:com.snowplowanalytics.snowplow/payload_data/jsonschema/1-0-4"
_BATCHES = {"native": "/collect", "segment": "/v1/batch", "posthog": "/batch/"}


@dataclass(slots=True)
class Account:
    """What became of the chosen records' messages; `repeated` are older ones of a message that has a newer one.

    `unusable` don't hold enough to be sent; `unchecked` are those of a dry run of which only the collector knows.
    """

    selected: int = 0
    repeated: int = 0
    outcomes: Counter[Outcome] = field(default_factory=Counter)
    problems: Counter[tuple[Outcome, str]] = field(default_factory=Counter)

    def add(self, outcome: Outcome, problem: str = "") -> None:
        self.outcomes[outcome] += 1
        if problem:
            self.problems[outcome, problem] += 1

    def facts(self) -> dict[str, Any]:
        return {
            "selected": self.selected,
            "repeated": self.repeated,
            **{outcome: self.outcomes[outcome] for outcome in get_args(Outcome)},
            "problems": [
                {"outcome": outcome, "problem": problem, "records": count}
                for (outcome, problem), count in self.problems.most_common()
            ],
        }


def read(settings: Settings, selection: Selection) -> Iterator[Kept]:
    """The chosen records from the oldest to the end as it is now. Raises ServiceError."""
    for seen in tail(settings, settings.kafka.rejected_topic, from_beginning=True, follow=False):
        kept = Kept.read(seen.partition, seen.offset, seen.value)
        if not seen.problem and selection.matches(kept):
            yield kept


def reinject(
    client: CollectorClient | None,
    settings: Settings,
    records: Iterable[Kept],
    edits: Sequence[Edit] = (),
    as_key: str | None = None,
    progress: Callable[[Account], None] = lambda account: None,
) -> Account:
    """Sends the records again, under their own keys or `as_key`; without a client it only says what would happen.

    The newest record of a message is the one that counts. Raises ServiceError when the collector is away.
    """
    account = Account()
    ready = _ready(records, edits, account)
    by_door = sorted(ready, key=lambda one: (one.kept.protocol, as_key or one.kept.write_key, one.kept.run or RUN))
    for (protocol, key, run), group in groupby(
        by_door, lambda one: (one.kept.protocol, as_key or one.kept.write_key, one.kept.run or RUN)
    ):
        messages = list(group)
        write_key = settings.collector.write_keys.get(key)
        if write_key is None:
            for _ in messages:
                account.add("unusable", f"write_key: {key or 'none'} is not in the settings (--as-key)")
            continue
        for batch in _batches(messages, BATCH if protocol in _BATCHES else 1):
            if client is None:
                _judge(batch, key, run, account)
            else:
                _send(client, batch, write_key.secret, run, account)
            progress(account)
    return account


def _ready(records: Iterable[Kept], edits: Sequence[Edit], account: Account) -> list[Ready]:
    """One for each message, as far as they can be sent."""
    newest: dict[tuple[str, str, str], Ready] = {}
    for kept in (one for record in records for one in record.apart()):
        account.selected += 1
        try:
            ready = prepare(kept, edits)
        except InvalidEvent as error:
            account.add("unusable", str(error))
            continue
        place = (kept.protocol, kept.write_key, ready.message_id)
        account.repeated += place in newest
        newest[place] = ready
    return list(newest.values())


def _batches(messages: Sequence[Ready], size: int) -> Iterator[list[Ready]]:
    """Up to `size` messages and about MAX_BATCH_BYTES each."""
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
    """What the contract says of native messages; of others only the collector knows."""
    for ready in batch:
        try:
            if ready.kept.protocol != "native":
                account.add("unchecked")
                continue
            native.parse(ready.message, Context(write_key=key, received_at=ready.kept.received_at, run=run))
            account.add("accepted")
        except InvalidEvent as error:
            account.add("rejected", str(error))


def _send(client: CollectorClient, batch: Sequence[Ready], secret: str, run: str, account: Account) -> None:
    method, path, options = _request([one.message for one in batch], batch[0].kept, run)
    response = client.request(method, path, headers={"X-Write-Key": secret}, **options)
    if response.status_code == 400 and len(batch) == 1:
        answer = _json(response.content)
        account.add("rejected", f"{answer.get('field')}: {answer.get('reason')}")
        return
    if response.status_code == 401:
        raise ServiceError("collector", "refuses the write key (CLICKSTREAM_COLLECTOR__WRITE_KEYS)")
    if not response.ok:
        raise ServiceError("collector", f"answers {response.status_code} at {path}: {response.text[:200]}")
    answer = _json(response.content)
    refused, aside = answer.get("errors") or [], int(answer.get("quarantined") or 0)
    for error in refused:
        account.add("rejected", f"{error.get('field')}: {error.get('reason')}")
    account.outcomes["quarantined"] += aside
    account.outcomes["accepted"] += len(batch) - len(refused) - aside


def _request(messages: Sequence[Any], kept: Kept, run: str) -> tuple[str, str, dict[str, Any]]:
    """Method, path and options of the door by which such messages came."""
    params = {"run": run}
    if kept.protocol == "access_log":
        place = {"source": kept.run or RUN, "first_line": str(kept.line or 1)}
        return "POST", "/collect/access-log", {"params": place, "data": f"{messages[0]}\n".encode()}
    if kept.protocol in _BATCHES:
        return "POST", _BATCHES[kept.protocol], {"params": params, "json": {"batch": list(messages)}}
    texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in messages[0].items()}
    if kept.protocol == "pixel":
        return "GET", "/pixel.gif", {"params": texts | params}
    if sum(len(name) + len(value) for name, value in texts.items()) <= MAX_QUERY:
        return "GET", "/i", {"params": texts | params}
    return "POST", _SNOWPLOW, {"params": params, "json": {"schema": _SCHEMA, "data": list(messages)}}


def _json(raw: bytes) -> Mapping[str, Any]:
    """An answer that is no object (a pixel) says nothing."""
    try:
        answer = json.loads(raw)
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}
