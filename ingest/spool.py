"""A durable buffer on local disk for records that Kafka does not take now: fsynced before `append` returns.

One SQLite file in WAL mode with synchronous=FULL, so that several threads and processes may share it. Ids only grow
(AUTOINCREMENT): a deletion can never hit a record that came later.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from ingest.errors import PublishError, SpoolFull

_PAGE = 4096
_READ_BYTES = 4 * 1024 * 1024
_MIN_PAGES = 8  # an empty spool has this many
_CREATE = """
CREATE TABLE IF NOT EXISTS records (id INTEGER PRIMARY KEY AUTOINCREMENT, topic TEXT NOT NULL, key BLOB, value BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS refused (id INTEGER PRIMARY KEY, topic TEXT NOT NULL, key BLOB, value BLOB NOT NULL, reason TEXT NOT NULL);
"""  # noqa: E501


class Record(msgspec.Struct, frozen=True, gc=False):
    """One Kafka record; a key of None lets the producer spread it."""

    topic: str
    key: bytes | None
    value: bytes


class Spool:
    """Appended at one end, drained at the other; what Kafka refuses for good is set aside, never lost."""

    def __init__(self, path: Path, max_bytes: int) -> None:
        """Opens or creates the file. `max_bytes` bounds its size; 0 takes nothing. Raises PublishError."""
        self.path, self._max_bytes = path, max_bytes
        self._lock = threading.Lock()
        with self._errors():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path, timeout=5, isolation_level=None, check_same_thread=False)
            self._db.execute(f"PRAGMA page_size={_PAGE}")
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.executescript(_CREATE)
            self._db.execute(f"PRAGMA max_page_count={max(_MIN_PAGES, max_bytes // _PAGE)}")

    def append(self, records: Sequence[Record]) -> None:
        """Adds all or none; they are on disk when this returns. Raises SpoolFull, PublishError."""
        if not self._max_bytes:
            raise SpoolFull("the spool is switched off (CLICKSTREAM_COLLECTOR__SPOOL_MAX_BYTES is 0)")
        with self._transaction():
            self._db.executemany(
                "INSERT INTO records (topic, key, value) VALUES (?, ?, ?)",
                [(record.topic, record.key, record.value) for record in records],
            )

    def oldest(self, limit: int) -> list[tuple[int, Record]]:
        """Up to `limit` records, and not much more than 4 MiB, with their ids, oldest first."""
        found: list[tuple[int, Record]] = []
        size = 0
        with self._lock, self._errors():
            rows = self._db.execute("SELECT id, topic, key, value FROM records ORDER BY id LIMIT ?", (limit,))
            for id_, topic, key, value in rows:
                found.append((id_, Record(topic, key, value)))
                size += len(value)
                if size > _READ_BYTES:
                    break
            rows.close()
        return found

    def delete(self, ids: Sequence[int]) -> None:
        """Forgets records that Kafka has; unknown ids are fine (another process was faster)."""
        with self._transaction():
            self._db.executemany("DELETE FROM records WHERE id = ?", [(id_,) for id_ in ids])
        if not len(self):
            with self._lock, contextlib.suppress(sqlite3.Error):  # gives the disk its space back, or not
                self._db.execute("VACUUM")

    def set_aside(self, id_: int, reason: str) -> None:
        """Moves a record that Kafka can never take out of the way; it stays in the file for a person to look at."""
        with self._transaction():
            self._db.execute(
                "INSERT OR IGNORE INTO refused SELECT id, topic, key, value, ? FROM records WHERE id = ?",
                (reason, id_),
            )
            self._db.execute("DELETE FROM records WHERE id = ?", (id_,))

    def refused(self) -> list[tuple[Record, str]]:
        """What was set aside, with Kafka's reasons."""
        with self._lock, self._errors():
            rows = self._db.execute("SELECT topic, key, value, reason FROM refused ORDER BY id").fetchall()
        return [(Record(*row[:3]), row[3]) for row in rows]

    def __len__(self) -> int:
        """Records waiting. Ids are dense but for deletions by several processes at once, so ends are enough."""
        with self._lock, self._errors():
            row = self._db.execute(
                "SELECT (SELECT max(id) FROM records) - (SELECT min(id) FROM records) + 1"
            ).fetchone()
        return int(row[0] or 0)

    def close(self) -> None:
        with self._lock:
            self._db.close()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._lock, self._errors():
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
                raise SpoolFull(f"{self.path}: the spool's limit or the disk is reached") from error
            raise PublishError(f"{self.path}: {error}") from error
        except OSError as error:
            raise PublishError(f"{self.path}: {error}") from error
