"""Erasure: removes people from landed files, models, reports and checkpoints.

    erased = erase(fs, root, people)

All files under raw/ and quarantine/ of all topics are read, also hidden ones. Events of these people are anonymised
(`ingest/event/anonymise.py`); records that are no events and contain one of their ids lose key and value. Offsets,
counts and headers stay the same, so the ledger and the audit do, too. A file is replaced in one step, after the new one
was read back.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime

from ingest.event.anonymise import People
from ingest.event.event import to_millis
from storage.errors import ContainerError, StorageError
from storage.formats import format_of
from storage.hdfs import Hdfs
from storage.landed import all_paths

_THREADS = 4


@dataclass(slots=True)
class Erased:
    """Number of anonymised records, and of files that held them. `failed`: file -> why it could not be read."""

    records: int = 0
    files: int = 0
    failed: dict[str, str] = field(default_factory=dict)


def erase(fs: Hdfs, root: str, people: People) -> Erased:
    """Erases these people from all landed files below `root` (settings.hdfs.root)."""
    done = Erased()

    def one(path: str) -> tuple[str, int, str]:
        try:
            return path, format_of(path).erase(fs, path, people), ""
        except FileNotFoundError:
            return path, 0, ""  # compaction or retention has deleted it since it was listed
        except ContainerError as error:
            return path, 0, str(error)
        except StorageError as error:
            return path, 0, error.reason

    with ThreadPoolExecutor(_THREADS) as pool:
        for path, records, failed in pool.map(one, all_paths(fs, root)):
            done.records += records
            done.files += bool(records)
            if failed:
                done.failed[path] = failed
    return done


def forget_models(fs: Hdfs, root: str, visitors: Collection[str]) -> int:
    """Removes these visitors from all trained recommenders; returns how many rows that were."""
    from storage.formats.parquet.erase import drop_rows

    every = (path for path in _folders(fs, f"{root}/models") if path.endswith("/visitors"))
    return sum(drop_rows(fs, path, "visitor_id", visitors) for path in every)


def forget_reports(fs: Hdfs, root: str, people: People) -> None:
    """Deletes quality reports that contain rows of these people; a job that finds the same again writes a new one."""
    for table in fs.names(f"{root}/quality"):
        for name in fs.names(f"{root}/quality/{table}"):
            path = f"{root}/quality/{table}/{name}"
            with suppress(FileNotFoundError):
                if people.named_in(fs.read(path)):
                    fs.delete(path)


def forget_checkpoints(fs: Hdfs, root: str, before: datetime) -> int:
    """Deletes checkpoints last modified before `before`, whose jobs have died; how many."""
    jobs = fs.names(f"{root}/checkpoints")
    entries = [entry for job in jobs for entry in fs.list(f"{root}/checkpoints/{job}")]
    return sum(fs.delete(entry.path, recursive=True) for entry in entries if entry.modified < to_millis(before))


def _folders(fs: Hdfs, path: str) -> Iterator[str]:
    """All folders below `path`."""
    with suppress(FileNotFoundError):
        for entry in fs.list(path):
            if entry.is_dir:
                yield entry.path
                yield from _folders(fs, entry.path)
