"""librdkafka's delivery reports of one call to `publish`, and waiting for them."""

from __future__ import annotations

import contextlib
import itertools
import threading
from dataclasses import dataclass
from typing import Any

from ingest.delivery.record import Record

_REFUSED = {10, 18, 87}  # Kafka's MESSAGE_TOO_LARGE, RECORD_LIST_TOO_LARGE, INVALID_RECORD: no retry can cure them


@dataclass(frozen=True, slots=True)
class Failure:
    """A record that Kafka did not accept; `refused`: no retry can help."""

    record: Record
    reason: str
    refused: bool

    @classmethod
    def of(cls, record: Record, error: Any) -> Failure:
        """From librdkafka's error."""
        return cls(record, error.str(), error.code() in _REFUSED)


class Reports:
    """The delivery reports of one call, counted until they are complete or given up."""

    def __init__(self, expected: int) -> None:
        self.failures: list[Failure] = []
        # A bare lock, held until the end: a quarter of an Event's price. Two threads may report at once, when a
        # producer is replaced; each takes another ticket, and one of them the last.
        self._end = threading.Lock()
        self._end.acquire()
        self._tickets = itertools.count(1)
        self._expected = expected
        self._complete = False

    def on_delivery(self, error: Any, message: Any) -> None:
        """librdkafka's callback, the hottest of all: once for each record."""
        if error is not None:
            self.failures.append(Failure.of(Record(message.topic(), message.key(), message.value()), error))
        if next(self._tickets) == self._expected:
            self._complete = True
            self.give_up()

    def add(self, failure: Failure) -> None:
        """Adds a record that librdkafka did not accept."""
        self.failures.append(failure)
        if next(self._tickets) == self._expected:
            self._complete = True
            self.give_up()

    def give_up(self) -> None:
        """Ends the wait."""
        with contextlib.suppress(RuntimeError):  # it has ended already
            self._end.release()

    def wait(self, timeout: float) -> bool:
        """Whether every report came, within `timeout` seconds and before anybody gave up."""
        self._end.acquire(timeout=timeout)
        return self._complete
