"""A durable buffer on local disk for records that Kafka can't take now; `append` returns after the fsync.

One SQLite file in WAL mode with synchronous=FULL, which several threads and processes share. Threads that append at
once share one commit, and so one fsync. Each record has a checksum. Ids only grow (AUTOINCREMENT), so a deletion can
never hit a later record.

Space is reserved before a record is sent to Kafka, since a record in flight can't be taken back; see
ingest/delivery/reservation.py.
"""

from __future__ import annotations

import contextlib
import fcntl
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from ingest.delivery.record import PAGE, Record, checksum, disk_size
from ingest.delivery.reservation import DiskReservation
from ingest.errors import PublishError, SpoolFull

_READ_BYTES = 4 * 1024 * 1024
_CREATE = """
CREATE TABLE IF NOT EXISTS waiting (id INTEGER PRIMARY KEY AUTOINCREMENT, at REAL NOT NULL, topic TEXT NOT NULL, key BLOB,
    value BLOB NOT NULL, checksum INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS refused (id INTEGER PRIMARY KEY, topic TEXT NOT NULL, key BLOB, value BLOB NOT NULL, reason TEXT NOT NULL);
"""  # noqa: E501
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class SpoolState:
    """Number of waiting records, their bytes on disk, and the age of the oldest in seconds (0 if none waits)."""

    records: int
    bytes: int
    oldest_seconds: float


@dataclass(slots=True, eq=False)
class _Append:
    """One thread's records to append, and the outcome."""

    records: Sequence[Record]
    limit: int
    done: bool = False
    error: PublishError | None = field(default=None)


class Spool:
    """A queue on disk. Records that Kafka refuses for good are set aside, never lost."""

    def __init__(
        self,
        path: Path,
        max_bytes: int,
        *,
        headroom: int = 0,
        processes: int = 1,
        max_age_seconds: float = float("inf"),
    ) -> None:
        """Opens or creates the file. Raises PublishError.

        `max_bytes`: its size limit; 0 switches it off. `headroom`: bytes of it for records with a reservation, shared
        by `processes`. While a record is older than `max_age_seconds`, nothing new is accepted.
        """
        self.path, self._max_bytes, self._max_age = path, max_bytes, max_age_seconds
        self._headroom, self._reservation = headroom, DiskReservation(path.with_suffix(".ballast"), headroom, processes)
        self._lock, self._queue_lock = threading.Lock(), threading.Lock()
        self._queue: list[_Append] = []
        self._began = time.time() - time.monotonic()
        with self._errors():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = self._open()
        self._reservation.hold()

    @property
    def enabled(self) -> bool:
        """Whether it accepts records at all."""
        return self._max_bytes > 0

    def reserve(self, records: Sequence[Record], patience: float = 1.0) -> contextlib.AbstractContextManager[None]:
        """Reserves space for `append(records, promised=True)`.

        Waits up to `patience` seconds for other reservations to end, then raises SpoolFull.
        """
        return self._reservation.promise(disk_size(records), patience)

    def check_room(self) -> None:
        """Raises SpoolFull if no space can be reserved: the spool or the disk is full, or its records are too old."""
        with self._lock, self._errors():
            used, oldest = self._used(), self._oldest()
        if used > self._max_bytes - self._headroom:
            raise SpoolFull(f"{self.path}: {used} bytes wait, the limit is {self._max_bytes - self._headroom}")
        if oldest > self._max_age:
            raise SpoolFull(
                f"{self.path}: its oldest record has waited {oldest:.0f} s, the limit is {self._max_age:.0f}"
            )
        if not self._reservation.hold():
            raise SpoolFull(f"{self.path}: the disk has no {self._headroom} bytes left")

    def append(self, records: Sequence[Record], promised: bool = False) -> None:
        """Adds all or none; they are on disk when this returns. Raises SpoolFull, PublishError.

        `promised`: they have a reservation and may use the headroom.
        """
        if not self.enabled:
            raise SpoolFull("the spool is switched off (CLICKSTREAM_COLLECTOR__SPOOL_MAX_BYTES is 0)")
        mine = _Append(records, self._max_bytes if promised else self._max_bytes - self._headroom)
        with self._queue_lock:
            self._queue.append(mine)
        with self._lock:  # the first who gets here commits for all who wait
            if not mine.done:
                self._commit_queue()
        if mine.error is not None:
            raise mine.error

    def _commit_queue(self) -> None:
        with self._queue_lock:
            group, self._queue = self._queue, []
        try:
            self._commit(group)
        except SpoolFull as full:
            # The disk is full, as the file's own limit is checked before. Reserved records get the ballast's space.
            self._reservation.give_up()
            promised = [one for one in group if one.limit == self._max_bytes]
            self._fail([one for one in group if one not in promised], full)
            self._retry(promised)
        except PublishError as error:
            self._fail(group, error)
        for one in group:
            one.done = True

    def _retry(self, group: list[_Append]) -> None:
        try:
            self._commit(group)
        except PublishError as error:
            _log.error("promise_broken", spool=str(self.path), reason=str(error))
            self._fail(group, error)

    @staticmethod
    def _fail(group: list[_Append], error: PublishError) -> None:
        for one in group:
            one.error = one.error or error

    def _commit(self, group: list[_Append]) -> None:
        """Inserts, in one transaction, all records that are within the limits."""
        with self._transaction():
            used, now = self._used(), self._now()
            for one in group:
                used += disk_size(one.records)
                if used > one.limit:
                    used -= disk_size(one.records)
                    one.error = SpoolFull(f"{self.path}: {used} of {one.limit} bytes are taken")
                    continue
                self._db.executemany(
                    "INSERT INTO waiting (at, topic, key, value, checksum) VALUES (?, ?, ?, ?, ?)",
                    [(now, record.topic, record.key, record.value, checksum(record)) for record in one.records],
                )

    @contextlib.contextmanager
    def draining(self) -> Iterator[bool]:
        """Takes the lock of draining for the block; gives False if another process has it."""
        with self.path.with_suffix(".drain").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True

    def oldest(self, limit: int) -> list[tuple[int, Record]]:
        """Up to `limit` records, and not much more than 4 MiB, with their ids, oldest first.

        Records with a wrong checksum are set aside.
        """
        found: list[tuple[int, Record]] = []
        broken: list[int] = []
        size = 0
        with self._lock, self._errors():
            rows = self._db.execute("SELECT id, topic, key, value, checksum FROM waiting ORDER BY id LIMIT ?", (limit,))
            for id_, topic, key, value, written in rows:
                record = Record(topic, key, value)
                if checksum(record) != written:
                    broken.append(id_)
                    continue
                found.append((id_, record))
                size += len(value)
                if size > _READ_BYTES:
                    break
            rows.close()
        for id_ in broken:
            _log.error("spooled_record_damaged", spool=str(self.path), id=id_)
            self.set_aside(id_, "its checksum does not match: the disk has changed it")
        return found if found or not broken else self.oldest(limit)

    def delete(self, ids: Sequence[int]) -> None:
        """Deletes records; ignores unknown ids, which another process has deleted."""
        with self._lock, self._transaction():
            self._db.executemany("DELETE FROM waiting WHERE id = ?", [(id_,) for id_ in ids])
        if not len(self):
            with self._lock, contextlib.suppress(sqlite3.Error):  # gives the disk its space back, or not
                self._db.execute("VACUUM")

    def set_aside(self, id_: int, reason: str) -> None:
        """Moves a record that Kafka refuses for good to another table, for the operator."""
        with self._lock, self._transaction():
            self._db.execute(
                "INSERT OR IGNORE INTO refused SELECT id, topic, key, value, ? FROM waiting WHERE id = ?",
                (reason, id_),
            )
            self._db.execute("DELETE FROM waiting WHERE id = ?", (id_,))

    def refused(self) -> list[tuple[Record, str]]:
        """The records that were set aside, with their reasons."""
        with self._lock, self._errors():
            rows = self._db.execute("SELECT topic, key, value, reason FROM refused ORDER BY id").fetchall()
        return [(Record(*row[:3]), row[3]) for row in rows]

    def state(self) -> SpoolState:
        """Number, bytes and age of the waiting records."""
        with self._lock, self._errors():
            return SpoolState(self._count(), self._used(), self._oldest())

    def __len__(self) -> int:
        """Number of waiting records."""
        with self._lock, self._errors():
            return self._count()

    def close(self) -> None:
        with self._lock:
            self._db.close()

    def _open(self) -> sqlite3.Connection:
        """Opens the database; a damaged one is renamed and kept for the operator."""
        try:
            return self._connect()
        except sqlite3.DatabaseError as error:
            if error.sqlite_errorcode not in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
                raise
            aside = self.path.with_suffix(f".damaged-{time.time_ns()}")
            self.path.rename(aside)
            _log.error("spool_damaged", spool=str(self.path), kept_as=str(aside), reason=str(error))
            return self._connect()

    def _connect(self) -> sqlite3.Connection:
        db = sqlite3.connect(self.path, timeout=5, isolation_level=None, check_same_thread=False)
        db.execute(f"PRAGMA page_size={PAGE}")
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=FULL")
        db.executescript(_CREATE)
        return db

    def _count(self) -> int:
        """Number of waiting records, from the first and last id: gaps are rare."""
        row = self._db.execute("SELECT (SELECT max(id) FROM waiting) - (SELECT min(id) FROM waiting) + 1").fetchone()
        return int(row[0] or 0)

    def _used(self) -> int:
        """Bytes of the file's used pages."""
        [pages] = self._db.execute("PRAGMA page_count").fetchone()
        [free] = self._db.execute("PRAGMA freelist_count").fetchone()
        return int(pages - free) * PAGE

    def _oldest(self) -> float:
        row = self._db.execute("SELECT at FROM waiting ORDER BY id LIMIT 1").fetchone()
        return max(0.0, self._now() - row[0]) if row else 0.0

    def _now(self) -> float:
        """Seconds since 1970 by the monotonic clock, so that setting the clock makes no record old."""
        return self._began + time.monotonic()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._errors():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):  # SQLite may have rolled back by itself
                    self._db.execute("ROLLBACK")
                raise

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            if error.sqlite_errorcode == sqlite3.SQLITE_FULL:
                raise SpoolFull(f"{self.path}: the disk is full") from error
            raise PublishError(f"{self.path}: {error}") from error
        except OSError as error:
            raise PublishError(f"{self.path}: {error}") from error
