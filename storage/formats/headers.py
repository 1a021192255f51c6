"""Reads a landed file's metadata from its head or its tail."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from storage.errors import ContainerError, StorageError
from storage.formats import format_of
from storage.formats.file_info import FileInfo
from storage.hdfs import Hdfs

T = TypeVar("T")
_FIRST_READ = 1 << 16  # bytes; an Avro header is some 6,000, a Parquet footer some 10,000 for each row group


def read_info(fs: Hdfs, path: str) -> FileInfo:
    """Metadata of a file of any format. Raises StorageError if it has none."""
    return format_of(path).read_info(fs, path)


def read_enough(read: Callable[[str, int], bytes], path: str, parse: Callable[[bytes], T]) -> T:
    """Parses a file's head or tail, reading more of it as long as `parse` raises a truncated ContainerError.

    Raises StorageError for other ContainerErrors.
    """
    size = _FIRST_READ
    while True:
        part = read(path, size)
        try:
            return parse(part)
        except ContainerError as error:
            if not error.truncated or len(part) < size:
                raise StorageError(path, str(error)) from error
        size *= 16
