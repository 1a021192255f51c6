"""A client of HDFS: the few operations that the platform needs. The only module that imports hdfs_native.

All paths are absolute; callers put them below settings.hdfs.root. A missing path raises FileNotFoundError, a name that
is taken FileExistsError, everything else StorageError. Unreachable is raised within some ten seconds if no NameNode
answers, and at once if it is starting, in safe mode or on standby.
"""

from __future__ import annotations

import io
import os
import pwd
import re
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, wait
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import urlsplit

from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from infra.settings import Settings
from storage.errors import StorageError, Unreachable

if TYPE_CHECKING:
    from hdfs_native import Client

_READ_AHEAD = 1 << 22  # bytes
_SMALL_WRITE_SECONDS, _SMALL_WRITE_TRIES = 15, 12
_Names = list[str]  # in the class `list` is a method

# Three attempts take 9 s; the default of 15 three minutes. Not set if there is a conf_dir: failover between two
# NameNodes may need longer.
_OWN_CLUSTER = {"dfs.client.failover.max.attempts": "3"}

# Errors of a NameNode that is starting, in safe mode, or on standby.
_NOT_YET = re.compile(r"\b(SafeMode|Standby|Retriable)Exception\b")


class _WriteBroken(Unreachable):
    """DataNodes did not accept all of a file, or not in time."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a listing; `size` in bytes, `modified` in milliseconds since 1970."""

    name: str
    path: str
    size: int
    is_dir: bool
    modified: int


class Hdfs:
    """A client of settings.hdfs, connected at first use; safe to share between threads.

    hdfs_native takes the user from the process's environment only, so all clients of a process have the same user.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings.hdfs
        self.address = settings.hdfs.address

    @cached_property
    def _client(self) -> Client:
        from hdfs_native import Client

        conf_dir = self.settings.conf_dir
        config = {} if conf_dir else dict(_OWN_CLUSTER)
        if self.settings.user:
            os.putenv("HADOOP_USER_NAME", self.settings.user)
        with self._errors(self.address):
            return Client(self.address, config, str(conf_dir) if conf_dir else None)

    def list(self, path: str) -> list[Entry]:
        """Entries of the folder, sorted by name. Raises FileNotFoundError if there is no such folder."""
        with self._errors(path):
            statuses = list(self._client.list_status(path))
        entries = [Entry(s.path.rsplit("/", 1)[-1], s.path, s.length, s.isdir, s.modification_time) for s in statuses]
        return sorted(entries, key=lambda entry: entry.name)

    def names(self, path: str) -> _Names:
        """Names in the folder, sorted; empty if there is no such folder."""
        try:
            return [entry.name for entry in self.list(path)]
        except FileNotFoundError:
            return []

    def exists(self, path: str) -> bool:
        try:
            with self._errors(path):
                self._client.get_file_info(path)
        except FileNotFoundError:
            return False
        return True

    def read(self, path: str) -> bytes:
        """The whole file."""
        with self._errors(path):
            return self._client.read(path).read()

    def read_head(self, path: str, size: int) -> bytes:
        """The first `size` bytes, or all if the file is shorter."""
        with self._errors(path):
            return self._client.read(path).read(size)

    def open(self, path: str) -> BinaryIO:
        """The file as a stream, read some megabytes ahead."""
        with self._errors(path):
            return io.BufferedReader(_RawReader(self._client.read(path), lambda: self._errors(path)), _READ_AHEAD)

    def count_files(self, path: str) -> int:
        """Number of files in the folder and below it, by one request; 0 if there is no such folder."""
        try:
            with self._errors(path):
                count: int = self._client.get_content_summary(path).file_count
        except FileNotFoundError:
            return 0
        return count

    def read_tail(self, path: str, size: int) -> bytes:
        """The last `size` bytes, or all if the file is shorter."""
        with self._errors(path):
            reader = self._client.read(path)
            start = max(0, len(reader) - size)
            return reader.read_range(start, len(reader) - start)

    def create(self, path: str, chunks: Iterable[bytes], create_parents: bool = False) -> int:
        """Writes a new file and closes it; returns its size in bytes. Raises FileExistsError if the name is taken.

        Raises FileNotFoundError if the folder is gone and `create_parents` is False: so an owner learns that it was
        fenced. The file is visible while it grows, so final names are given by `rename`. On return its bytes are on the
        DataNodes' disks; those of an erasure-coded file are in their memory.
        """
        from hdfs_native import WriteOptions

        settings, size = self.settings, 0
        options = WriteOptions(
            block_size=settings.block_bytes,
            replication=settings.replication,
            permission=int(settings.file_mode, 8),
            overwrite=False,
            create_parent=create_parents,
        )
        with self._errors(path):
            created = self._client.create(path, options)
        try:
            with self._errors(path), created as file:
                for chunk in chunks:
                    size += file.write(bytes(chunk))  # other buffers are some ten times slower
                if size and not settings.erasure_coding:
                    file.hsync()
        except StorageError as error:
            ours = error.path == path  # not that of a file from which the chunks are read
            if ours and "QuotaExceeded" not in str(error):
                raise _WriteBroken(path, self.address, _first_line(error.__cause__ or error)) from error
            raise
        return size

    def rename(self, source: str, target: str, overwrite: bool = False) -> None:
        """Renames in one atomic step. Raises FileExistsError if `target` is taken, FileNotFoundError if `source` or the
        target's folder is missing."""
        with self._errors(source):
            self._client.rename(source, target, overwrite)

    def mkdirs(self, path: str) -> None:
        """Creates the folder and its parents; no error if they exist, so it can't be used as a lock."""
        with self._errors(path):
            self._client.mkdirs(path, int(self.settings.folder_mode, 8), create_parent=True)

    def delete(self, path: str, recursive: bool = False) -> bool:
        """Deletes a file or folder; False if there was none."""
        with self._errors(path):
            return self._client.delete(path, recursive)

    def write_atomically(self, path: str, data: bytes, overwrite: bool = False) -> None:
        """Writes a small file, of which readers see nothing or all. Raises FileExistsError if the name is taken and
        `overwrite` is False.

        An attempt that DataNodes break off, or that takes more than some seconds, is abandoned for another.
        """
        again = Retrying(
            retry=retry_if_exception_type(_WriteBroken),
            stop=stop_after_attempt(_SMALL_WRITE_TRIES),
            wait=wait_random_exponential(multiplier=0.1, max=2),
            reraise=True,
        )
        again(self._write_once, path, data, overwrite)

    def _write_once(self, path: str, data: bytes, overwrite: bool) -> None:
        folder, name = path.rsplit("/", 1)
        temporary = f"{folder}/_{name}.{uuid.uuid4().hex}.tmp"  # Spark and our readers skip a leading underscore
        try:
            if not self._create_in_time(temporary, data):
                tried = f"{_SMALL_WRITE_TRIES} times {_SMALL_WRITE_SECONDS} s"
                raise _WriteBroken(path, self.address, f"no DataNodes took a file of {len(data)} bytes in {tried}")
            self.rename(temporary, path, overwrite)
        except BaseException:
            with suppress(OSError, StorageError):
                self.delete(temporary)
            raise

    def _create_in_time(self, path: str, data: bytes) -> bool:
        """Writes a file; False if that takes too long, since hdfs_native can't be interrupted.

        It waits for ever for a dead DataNode, which the NameNode believes alive for its first ten minutes. The next
        file may be placed on other DataNodes.
        """
        created: Future[int] = Future()

        def create() -> None:
            try:
                created.set_result(self.create(path, [data], create_parents=True))
            except BaseException as error:
                created.set_exception(error)

        threading.Thread(target=create, name="hdfs-small-write", daemon=True).start()
        if not wait([created], _SMALL_WRITE_SECONDS).done:
            return False
        created.result()
        return True

    def set_policies(self, path: str) -> None:
        """Sets the storage policy and the erasure coding of the settings on a folder, for new files below it."""
        settings = self.settings
        wanted = {
            "SETSTORAGEPOLICY": {"storagepolicy": settings.storage_policy},
            "SETECPOLICY": {"ecpolicy": settings.erasure_coding},
        }
        for operation, parameters in wanted.items():
            if any(parameters.values()):
                self._web(operation, path, parameters)

    def _web(self, operation: str, path: str, parameters: Mapping[str, str]) -> None:
        """Calls WebHDFS, the NameNode's web server, for operations that otherwise need a JVM."""
        import requests  # 0.1 s, which every command would take longer

        address = self.settings.http_address
        if not address:
            raise StorageError(path, "CLICKSTREAM_HDFS__HTTP_URL is missing: its policies are set there")
        user = self.settings.user or pwd.getpwuid(os.geteuid()).pw_name  # as in hdfs_native and Java's clients
        query = {"op": operation, "user.name": user, **parameters}
        try:
            answer = requests.put(f"{address}/webhdfs/v1{path}", params=query, timeout=30)
        except requests.RequestException as error:
            raise Unreachable(path, address, repr(error)) from error
        if not answer.ok:
            raise self._refused(path, f"{operation} {parameters}: {answer.text[:300]}")

    def arrow_filesystem(self) -> Any:
        """The client as an fsspec file system, for the `filesystem` argument of pyarrow's readers."""
        from hdfs_native.fsspec import HdfsFileSystem

        url = urlsplit(self.address)
        filesystem = HdfsFileSystem(url.hostname, url.port, skip_instance_cache=True)
        filesystem.client = self._client  # which has the settings' configuration
        return filesystem

    @contextmanager
    def _errors(self, path: str) -> Iterator[None]:
        """Translates hdfs_native's errors into ours, without their Java stack."""
        try:
            yield
        except FileNotFoundError as error:
            raise FileNotFoundError(_first_line(error) or path) from None
        except FileExistsError as error:
            raise FileExistsError(_first_line(error) or path) from None
        except OSError as error:
            raise Unreachable(path, self.address, _first_line(error)) from error
        except (RuntimeError, ValueError) as error:
            raise self._refused(path, _first_line(error)) from error

    def _refused(self, path: str, reason: str) -> StorageError:
        return Unreachable(path, self.address, reason) if _NOT_YET.search(reason) else StorageError(path, reason)


class _RawReader(io.RawIOBase):
    """hdfs_native's reader as a raw stream, for Python's buffered reader."""

    def __init__(self, reader: Any, errors: Callable[[], AbstractContextManager[None]]) -> None:
        self._reader, self._errors = reader, errors

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        size = len(self._reader)
        target = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self.tell(), io.SEEK_END: size}[whence]
        if not 0 <= target <= size:  # hdfs_native would panic
            raise ValueError(f"there is no byte {target} in a file of {size}")
        self._reader.seek(target)
        return target

    def tell(self) -> int:
        position: int = self._reader.tell()
        return position

    def readinto(self, buffer: Any) -> int:
        with self._errors():
            data: bytes = self._reader.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def _first_line(error: BaseException) -> str:
    return str(error).replace("\\n\\tat", "\n").split("\n", 1)[0].strip()
