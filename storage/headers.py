"""Headers of landed files, each read once in its life, which is when the ledger counts the batch: what it said is
remembered with the file's length and time.

    <root>/remembered/<topic>/p=03/b=<bucket>.json     of the files in one bucket

A file on HDFS can't be changed but by appending to it, cutting it or putting another in its place, all of which change
its length or its time. So who lists it knows whether what is remembered of it still is what it says; whether its blocks
can be read is another question, which only reading answers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor, Future
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from typing import TypeVar

import msgspec

from storage.blocks import read_metadata
from storage.containers import FileInfo
from storage.errors import ContainerError, StorageError
from storage.hdfs import Entry, Hdfs
from storage.layout import Layout, bucket

T = TypeVar("T")
_HEAD = 1 << 16  # bytes; a header is some 6,000, a footer some 10,000 for each row group
Read = Callable[[str], FileInfo]  # a file's path -> its header; raises StorageError or FileNotFoundError
Reader = Callable[[str, Mapping[str, Entry]], AbstractContextManager[Read]]  # (a bucket's folder, what is in it)


def file_info(fs: Hdfs, path: str) -> FileInfo:
    """What a file says of itself: a container's header, or Parquet's footer. Raises StorageError if that is nothing."""
    if path.endswith(".parquet"):
        return enough(fs.read_tail, path, _read_footer)
    return enough(fs.read_head, path, read_metadata)


def enough(read: Callable[[str, int], bytes], path: str, parse: Callable[[bytes], T]) -> T:
    """What `parse` makes of a file's head or tail, of which it is given more while it calls it truncated.

    Raises StorageError for its ContainerError.
    """
    size = _HEAD
    while True:
        part = read(path, size)
        try:
            return parse(part)
        except ContainerError as error:
            if not error.truncated or len(part) < size:
                raise StorageError(path, str(error)) from error
        size *= 16


def _read_footer(tail: bytes) -> FileInfo:
    from storage.parquet import read_info  # pyarrow takes a while to import

    return read_info(tail)


@dataclass(frozen=True, slots=True)
class Remembered:
    """What a file said when it had this length, in bytes, and time of change, in milliseconds since 1970."""

    name: str
    size: int
    modified: int
    info: FileInfo

    def of(self, entry: Entry | None) -> bool:
        """Whether the file is still the one that said so."""
        return entry is not None and (self.size, self.modified) == (entry.size, entry.modified)


def forget(fs: Hdfs, layout: Layout, partition: int, begin: int) -> None:
    """Forgets the headers in buckets that end before `begin`, whose files are gone."""
    folder = f"{layout.remembered}/p={partition:02d}"
    for name in fs.names(folder):
        if name < bucket(begin):
            fs.delete(f"{folder}/{name}")


def anew(fs: Hdfs) -> Reader:
    """Reads each header from its file."""

    @contextmanager
    def reader(folder: str, entries: Mapping[str, Entry]) -> Iterator[Read]:
        yield lambda path: file_info(fs, path)

    return reader


class Memory:
    """A Reader that reads only what is not remembered, or has changed since; all of it when `fresh`.

    What it has read it remembers; `writers` do that, after the reader's context. Nothing is lost when that fails, so it
    is only told: `failed`. `read` counts the headers that were read from their files.
    """

    def __init__(self, fs: Hdfs, layout: Layout, writers: Executor, fresh: bool = False) -> None:
        self._fs, self._layout, self._writers, self._fresh = fs, layout, writers, fresh
        self._written: list[Future[None]] = []
        self.read = 0

    @contextmanager
    def __call__(self, folder: str, entries: Mapping[str, Entry]) -> Iterator[Read]:
        place = f"{self._layout.remembered}/{'/'.join(folder.rsplit('/', 2)[1:])}.json"
        recalled = {} if self._fresh else self._recall(place)
        known = {name: one for name, one in recalled.items() if one.of(entries.get(name))}
        seen: dict[str, Remembered] = {}

        def read(path: str) -> FileInfo:
            entry = entries[path.rsplit("/", 1)[-1]]
            found = known.get(entry.name)
            if found is None:
                found = seen[entry.name] = Remembered(entry.name, entry.size, entry.modified, file_info(self._fs, path))
            return found.info

        yield read
        self.read += len(seen)
        if known | seen != recalled:
            self._written.append(self._writers.submit(self._remember, place, known | seen))

    @property
    def failed(self) -> str | None:
        """Why something could not be remembered, if so; waits for what is being written."""
        for future in self._written:
            error = future.exception()
            if error is not None:
                return str(error)
        return None

    def _recall(self, place: str) -> dict[str, Remembered]:
        with suppress(FileNotFoundError, msgspec.MsgspecError):  # what is garbled is read anew, and written over
            known = msgspec.json.decode(self._fs.read(place), type=list[Remembered])
            return {one.name: one for one in known}
        return {}

    def _remember(self, place: str, every: dict[str, Remembered]) -> None:
        self._fs.write_atomically(place, msgspec.json.encode([every[name] for name in sorted(every)]), overwrite=True)
