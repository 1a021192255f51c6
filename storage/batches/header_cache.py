"""A cache of landed files' headers, so that each is read once; valid while the file has the same length and time.

    <root>/remembered/<topic>/p=03/b=<bucket>.json     of the files in one bucket

A file on HDFS can only be appended to, truncated or replaced, and each changes its length or its time of modification.
So a listing tells whether a cached header still is the file's. Whether the file's blocks can be read, only reading
tells.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor, Future
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass

import msgspec

from storage.formats.file_info import FileInfo
from storage.formats.headers import read_info
from storage.hdfs import Entry, Hdfs
from storage.layout import Layout, bucket

ReadHeader = Callable[[str], FileInfo]  # a file's path -> its header; raises StorageError or FileNotFoundError
# (a bucket's folder, what is in it)
HeaderReader = Callable[[str, Mapping[str, Entry]], AbstractContextManager[ReadHeader]]


@dataclass(frozen=True, slots=True)
class CachedHeader:
    """A file's header, and the file's length in bytes and time of modification in milliseconds since 1970."""

    name: str
    size: int
    modified: int
    info: FileInfo

    def is_valid(self, entry: Entry | None) -> bool:
        """Whether the listed file is the one whose header this is."""
        return entry is not None and (self.size, self.modified) == (entry.size, entry.modified)


def drop(fs: Hdfs, layout: Layout, partition: int, begin: int) -> None:
    """Deletes the cached headers of buckets that end before offset `begin`, whose files are gone."""
    folder = f"{layout.header_cache}/p={partition:02d}"
    for name in fs.names(folder):
        if name < bucket(begin):
            fs.delete(f"{folder}/{name}")


def uncached(fs: Hdfs) -> HeaderReader:
    """Reads each header from its file."""

    @contextmanager
    def reader(folder: str, entries: Mapping[str, Entry]) -> Iterator[ReadHeader]:
        yield lambda path: read_info(fs, path)

    return reader


class HeaderCache:
    """A HeaderReader that reads only headers that are not cached, or no longer valid; all of them when `fresh`.

    What was read is cached by `writers`, after the reader's context. If that fails nothing is lost: `failed` tells why.
    `read` counts the headers that were read from their files.
    """

    def __init__(self, fs: Hdfs, layout: Layout, writers: Executor, fresh: bool = False) -> None:
        self._fs, self._layout, self._writers, self._fresh = fs, layout, writers, fresh
        self._written: list[Future[None]] = []
        self.read = 0

    @contextmanager
    def __call__(self, folder: str, entries: Mapping[str, Entry]) -> Iterator[ReadHeader]:
        path = f"{self._layout.header_cache}/{'/'.join(folder.rsplit('/', 2)[1:])}.json"
        stored = {} if self._fresh else self._load(path)
        valid = {name: header for name, header in stored.items() if header.is_valid(entries.get(name))}
        new: dict[str, CachedHeader] = {}

        def read(path: str) -> FileInfo:
            entry = entries[path.rsplit("/", 1)[-1]]
            header = valid.get(entry.name)
            if header is None:
                header = CachedHeader(entry.name, entry.size, entry.modified, read_info(self._fs, path))
                new[entry.name] = header
            return header.info

        yield read
        self.read += len(new)
        if valid | new != stored:
            self._written.append(self._writers.submit(self._store, path, valid | new))

    @property
    def failed(self) -> str | None:
        """Reason why a header could not be cached, if any; waits for writes under way."""
        for future in self._written:
            error = future.exception()
            if error is not None:
                return str(error)
        return None

    def _load(self, path: str) -> dict[str, CachedHeader]:
        with suppress(FileNotFoundError, msgspec.MsgspecError):  # a garbled cache is read again, and overwritten
            headers = msgspec.json.decode(self._fs.read(path), type=list[CachedHeader])
            return {header.name: header for header in headers}
        return {}

    def _store(self, path: str, headers: dict[str, CachedHeader]) -> None:
        data = msgspec.json.encode([headers[name] for name in sorted(headers)])
        self._fs.write_atomically(path, data, overwrite=True)
