"""Takes people out of what has landed: each file that knows them is replaced by one that says the same of its offsets.

    erased = erase(fs, root, people)

All files are looked at, of all topics, under raw/ and quarantine/, also those that a larger one hides. Their events
become nobody's (`ingest/erasure.py`); of records that are no events, those with an id in them lose key and value.
Offsets, counts and headers stay, so that ledger and audit do; a file is replaced in one step, after it was read back.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from ingest.erasure import People, anonymised
from ingest.events import to_millis
from storage.blocks import Block, Header, blocks, encoded, encoded_rows, read_header, unpack
from storage.containers import COMPRESS
from storage.errors import ContainerError, StorageError
from storage.hdfs import Hdfs
from storage.layout import parse
from storage.merge import digest, framed, read_back
from storage.rewrite import rewrite

_THREADS = 4
_TREES = ("raw", "quarantine")


@dataclass(slots=True)
class Erased:
    """Records that are nobody's now, in so many files; `failed` file -> why nobody knows what is in it."""

    records: int = 0
    files: int = 0
    failed: dict[str, str] = field(default_factory=dict)


def erase(fs: Hdfs, root: str, people: People) -> Erased:
    """One run over all that has landed below `root` (settings.hdfs.root)."""
    done = Erased()

    def one(path: str) -> tuple[str, int, str]:
        try:
            return path, erase_file(fs, path, people), ""
        except FileNotFoundError:
            return path, 0, ""  # compacted or past its retention since it was listed
        except ContainerError as error:
            return path, 0, str(error)
        except StorageError as error:
            return path, 0, error.reason

    with ThreadPoolExecutor(_THREADS) as pool:
        for path, records, failed in pool.map(one, landed(fs, root)):
            done.records += records
            done.files += bool(records)
            if failed:
                done.failed[path] = failed
    return done


def landed(fs: Hdfs, root: str) -> Iterator[str]:
    """Paths of all files that hold records."""
    for tree in _TREES:
        for topic in fs.names(f"{root}/{tree}"):
            for partition in fs.names(f"{root}/{tree}/{topic}"):
                for bucket in fs.names(f"{root}/{tree}/{topic}/{partition}"):
                    folder = f"{root}/{tree}/{topic}/{partition}/{bucket}"
                    yield from (f"{folder}/{name}" for name in fs.names(folder) if parse(name) is not None)


def erase_file(fs: Hdfs, path: str, people: People) -> int:
    """How many records of these people the file held; it holds none any more. Raises StorageError, ContainerError."""
    if path.endswith(".parquet"):
        from storage import parquet_erase  # pyarrow takes a while to import

        return parquet_erase.erase_file(fs, path, people)
    with fs.open(path) as file:
        header = read_header(file)
        size = file.tell()
        if not any(_changed(header, block, people)[1] for block in blocks(file, header)):
            return 0
    return _write_avro(fs, path, header, fs.read_head(path, size), people)


def forget_models(fs: Hdfs, root: str, visitors: Collection[str]) -> int:
    """Takes these visitors' names out of all trained recommenders, and says how many they were: nobody is known any
    more by what was learnt of them."""
    from storage.parquet_erase import drop_rows

    every = (path for path in _folders(fs, f"{root}/models") if path.endswith("/visitors"))
    return sum(drop_rows(fs, path, "visitor_id", visitors) for path in every)


def forget_reports(fs: Hdfs, root: str, people: People) -> None:
    """Deletes the quality reports that show rows of theirs; a job that finds the same again writes it anew."""
    for table in fs.names(f"{root}/quality"):
        for name in fs.names(f"{root}/quality/{table}"):
            path = f"{root}/quality/{table}/{name}"
            with suppress(FileNotFoundError):
                if people.named_in(fs.read(path)):
                    fs.delete(path)


def forget_checkpoints(fs: Hdfs, root: str, before: datetime) -> None:
    """Deletes what jobs that died before then left of their work."""
    for job in fs.names(f"{root}/checkpoints"):
        for entry in fs.list(f"{root}/checkpoints/{job}"):
            if entry.modified < to_millis(before):
                fs.delete(entry.path, recursive=True)


def _folders(fs: Hdfs, path: str) -> Iterator[str]:
    """All folders below."""
    with suppress(FileNotFoundError):
        for entry in fs.list(path):
            if entry.is_dir:
                yield entry.path
                yield from _folders(fs, entry.path)


def _write_avro(fs: Hdfs, path: str, header: Header, head: bytes, people: People) -> int:
    sent, counts = hashlib.blake2b(), []

    def chunks() -> Iterator[bytes]:
        yield head
        with fs.open(path) as file:
            for block in blocks(file, read_header(file)):
                changed, count = _changed(header, block, people)
                counts.append(count)
                digest(sent, changed)
                yield framed(changed, header.sync)

    def write(unfinished: str) -> None:
        fs.create(unfinished, chunks())
        read_back(fs, unfinished, header.info, sent.digest())

    rewrite(fs, path, write, overwrite=True)
    return sum(counts)


def _changed(header: Header, block: Block, people: People) -> tuple[Block, int]:
    """The block without these people, and how many records of it that changed."""
    data = unpack(header, block)
    if not people.named_in(data):
        return block, 0
    records, count = [], 0
    for bytes_, record in encoded_rows(header, data, block.count):
        new = _without(record, people)
        count += new is not None
        records.append(bytes_ if new is None else encoded(header, new))
    return (Block(block.count, COMPRESS[header.codec](b"".join(records))), count) if count else (block, 0)


def _without(record: dict[str, Any], people: People) -> dict[str, Any] | None:
    """The envelope as nobody's; None where it is none of theirs."""
    if "event" in record:
        return record | {"event": anonymised(record["event"])} if people.own(record["event"]) else None
    own = people.own_plain(record["appended_at"], record["key"], record["value"])
    return record | {"key": None, "value": None} if own else None
