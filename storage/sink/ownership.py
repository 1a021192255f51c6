"""A partition that this process owns: its states, the records it takes, and the files it publishes.

    READING ── a record of an unknown schema ──► WAITING_FOR_SCHEMA ── the schema came, or its time is over ──► READING
    READING ── memory is short ────────────────► PAUSED_FOR_MEMORY ─── there is room again ──────────────────► READING

Both reasons may hold at once: Kafka is read again when neither does.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from enum import Enum
from typing import Protocol

import structlog

from storage.formats.file_info import Reason
from storage.formats.schemas import SchemaRegistry
from storage.layout import Layout
from storage.sink.epochs import Epoch
from storage.sink.publishing import Published, PublishQueue
from storage.sink.writer import NO_RECORDS, PartitionWriter, Records

log = structlog.get_logger()
Partition = tuple[str, int]  # topic, number


class State(Enum):
    """State of an owned partition."""

    READING = "reading"
    WAITING_FOR_SCHEMA = "waiting_for_schema"
    PAUSED_FOR_MEMORY = "paused_for_memory"


class Fetcher(Protocol):
    """The part of the consumer that a partition uses."""

    def pause(self, partition: Partition) -> None: ...

    def resume(self, partition: Partition) -> None: ...

    def seek(self, partition: Partition, offset: int) -> None: ...

    def low_watermark(self, partition: Partition) -> int:
        """The first offset that Kafka still has."""


class OwnedPartition:
    """One partition of one owner. `published` is the offset up to which files are visible.

    `at_end`: Kafka had nothing more when it was last asked. `read_until`: Kafka's time of the last record.
    `refresh_schemas` reads the schemas that were published since into `schemas`.
    """

    def __init__(
        self,
        layout: Layout,
        epoch: Epoch,
        writer: PartitionWriter,
        position: int,
        fetcher: Fetcher,
        schemas: SchemaRegistry,
        refresh_schemas: Callable[[], None],
    ) -> None:
        self.partition: Partition = layout.topic, epoch.partition
        self.epoch, self.writer, self.publishes = epoch, writer, PublishQueue(layout, epoch)
        self._fetcher, self._schemas, self._refresh_schemas = fetcher, schemas, refresh_schemas
        self.published = position
        self.at_end, self.read_until = False, 0
        # (offset, Kafka's time in milliseconds) of the first record of each run that is not published yet.
        self._pending_times: deque[tuple[int, int]] = deque()
        self._buffered = NO_RECORDS  # records from the first of an unknown schema on
        self._buffered_end = 0  # end of Kafka's log, if it was reached meanwhile
        self._waiting_since = 0.0  # monotonic seconds
        self._unknown_schemas: set[bytes] = set()  # fingerprints of schemas that did not come in time
        self._paused_for_memory = False
        self._in_step = False  # whether what Kafka gives is known to follow without a hole

    @property
    def state(self) -> State:
        if self._buffered:
            return State.WAITING_FOR_SCHEMA
        return State.PAUSED_FOR_MEMORY if self._paused_for_memory else State.READING

    @property
    def size(self) -> int:
        """Bytes in memory: of the open file, of buffered records, and of files that are not published yet."""
        return self.writer.size + self._buffered.size + self.publishes.size

    @property
    def idle(self) -> bool:
        """Whether all that was sealed is published."""
        return self.publishes.empty and not self.writer.sealed

    def waits_since(self) -> int | None:
        """Kafka's time, in milliseconds, of about the oldest record that is not published; None if there is none."""
        times = self._pending_times
        while len(times) > 1 and times[1][0] <= self.published:
            times.popleft()
        waiting = self.published < self.writer.end or self._buffered
        return times[0][1] if times and waiting else None

    # Results of polls

    def take(self, records: Records) -> bool:
        """Adds records, or buffers them while a schema is waited for.

        False if they left a hole and Kafka was asked again: what else the same poll gave is to be skipped.
        """
        first = records.offsets[0]
        self.at_end, self.read_until = False, records.times[-1]
        self._pending_times.append((first, records.times[0]))
        if self._buffered:
            self._buffered += records
        elif not self._follows(first):
            return False
        else:
            self._append(records)
            if self._buffered:
                self._waiting_since, self._buffered_end = time.monotonic(), 0
                self._fetcher.pause(self.partition)
        return True

    def reach(self, offset: int) -> bool:
        """Kafka has no record before `offset`: what is missing up to there never comes. Returns as `take` does."""
        self.at_end = True
        return self._skip_to(offset)

    def _skip_to(self, offset: int) -> bool:
        end = self.writer.end
        if self._buffered:
            self._buffered_end = offset
        elif offset > end:
            if not self._follows(offset):
                return False
            self.writer.skip(offset - 1, self._why_gap(end))
        return True

    def _follows(self, offset: int) -> bool:
        """False if the first answer after an assignment or a pause leaves a hole: then Kafka is asked again, once.

        A client library that hands out what it had fetched for an earlier assignment must not look like a gap in Kafka.
        """
        in_step, self._in_step = self._in_step, True
        if in_step or offset <= self.writer.end:
            return True
        log.info("hole_asked_again", partition=self.partition, expected=self.writer.end, offset=offset)
        self._fetcher.seek(self.partition, self.writer.end)
        return False

    def _append(self, records: Records) -> None:
        """Buffers what comes from the first record of an unknown schema on."""
        self._buffered = records[self.writer.append(records, self._why_gap) :]
        if self.writer.unknown_schema in self._unknown_schemas:
            self._refresh_schemas()  # it may have come by now: a record that is redriven follows its schema at once
            taken = self.writer.append(self._buffered, self._why_gap, self._unknown_schemas)
            self._buffered = self._buffered[taken:]
        if self.writer.unknown_schema:
            fingerprint = self.writer.unknown_schema.hex()
            log.warning("unknown_schema", partition=self.partition, offset=self.writer.end, fingerprint=fingerprint)

    def _why_gap(self, offset: int) -> Reason:
        """Reason of a gap at `offset`: no such record exists if Kafka has that range, else retention deleted it."""
        low = self._fetcher.low_watermark(self.partition)
        if low <= offset:
            return "kafka"
        log.error("offsets_lost", partition=self.partition, first=offset, kafka_begins_at=low)
        return "lost"

    # Pauses

    def retry_schemas(self, now: float, deadline_seconds: float) -> None:
        """Adds buffered records whose schema has come, or was waited for too long: those are quarantined."""
        late = now - self._waiting_since >= deadline_seconds
        while (unknown := self.writer.unknown_schema) and self._buffered and (late or unknown in self._schemas):
            if unknown not in self._schemas:
                log.error("schema_given_up", partition=self.partition, fingerprint=unknown.hex())
                self._unknown_schemas.add(unknown)
            self._append(self._buffered)
        if not self._buffered:
            self._resume()
            self._skip_to(self._buffered_end)

    def pause_for_memory(self, pause: bool) -> None:
        """Reads nothing until this is called with False."""
        was, self._paused_for_memory = self._paused_for_memory, pause
        if pause and not was:
            self._fetcher.pause(self.partition)
        elif was and not pause:
            self._resume()

    def _resume(self) -> None:
        """Reads again, unless there is another reason not to."""
        if self.state is State.READING:
            self._in_step = False
            self._fetcher.resume(self.partition)

    # Publishing

    def publish(self, pool: ThreadPoolExecutor) -> Published | None:
        """Publishes what is sealed; returns a publish that has ended, or raises what it raised."""
        self.publishes.add(self.writer.sealed)
        ended = self.publishes.advance(pool)
        if ended is not None:
            self.published = ended.sealed.info.last + 1
        return ended

    def discard(self, seconds: float) -> None:
        """Forgets all that is not published. Raises Hung if the publish under way takes longer than `seconds`."""
        self.writer.sealed.clear()
        self.publishes.discard(seconds)
