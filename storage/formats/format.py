"""The interface of a format: a module under storage/formats/ defines a `FORMAT`, and FORMATS lists it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, Literal, Protocol

from ingest.event.anonymise import People
from storage.formats.file_info import FileInfo
from storage.hdfs import Hdfs

Codec = Literal["zstandard", "deflate", "null"]  # sink.codec; a format with a compression of its own ignores it
Plain = tuple[bytes | None, bytes | None]  # key, value
Row = tuple[int, int, int, Any]  # partition, offset, appended_at in milliseconds, the event's fields or Plain
Encoded = tuple[int, int, bytes | None, bytes]  # offset, Kafka's time in milliseconds, key, body


class RecordFile(Protocol):
    """A file that is written in memory, in order of offsets."""

    @property
    def size(self) -> int:
        """Bytes in memory."""

    @property
    def length(self) -> int:
        """Approximate length in bytes if it were finished now."""

    def add(self, offset: int, appended_at: int, body: bytes, key: bytes | None = None) -> None:
        """Adds one record; `appended_at` in milliseconds since 1970. The key is only kept for `unread`."""

    def extend(
        self, first: int, times: Sequence[int], bodies: Sequence[bytes], keys: Sequence[bytes | None], size: int
    ) -> None:
        """Adds records with consecutive offsets from `first` on; `size`: bytes of the bodies."""

    def finish(self) -> int:
        """Ends writing; returns the number of records in the file."""

    @property
    def unread(self) -> Sequence[Encoded]:
        """Records that are not in the file, as their bodies don't follow its schema; complete once it is finished."""

    def file(self, info: FileInfo) -> list[bytes]:
        """The finished file, in pieces."""


@dataclass(frozen=True, slots=True)
class Part:
    """A file that is to be merged. Files of equal `columns` can become one; `head` is what was read to know that."""

    path: str
    columns: str = ""
    head: bytes = b""


@dataclass(frozen=True, slots=True)
class Format:
    """A format of landed files.

    `suffix` of its files' names. `spark_source`: the name of Spark's data source for it. `columnar`: records lie in
    columns, which readers match by name; otherwise readers decode each by the schema in the file.
    """

    suffix: str
    spark_source: str
    columnar: bool
    # (check bodies): raises DependencyError if a library that writing needs is not installed.
    require: Callable[[bool], None]
    # (schema of the envelope, partition, codec, check bodies): a new file, in memory.
    writer: Callable[[Mapping[str, Any], int, Codec, bool], RecordFile]
    # (HDFS, path): the file's metadata. Raises StorageError.
    read_info: Callable[[Hdfs, str], FileInfo]
    # (open file): its records in their order. Raises ContainerError at the first that can't be read.
    rows: Callable[[BinaryIO], Iterator[Row]]
    # (HDFS, path): what `merge` needs to know of a file beforehand. Raises StorageError or ContainerError.
    part: Callable[[Hdfs, str], Part]
    # (HDFS, parts that follow one another, temporary path, codec): writes them as one file, reads that back, and
    # returns its metadata. Raises StorageError or ContainerError.
    merge: Callable[[Hdfs, Sequence[Part], str, Codec], FileInfo]
    # (HDFS, path, people): replaces the file by one without these people; returns how many records changed. Raises
    # StorageError or ContainerError.
    erase: Callable[[Hdfs, str, People], int]
