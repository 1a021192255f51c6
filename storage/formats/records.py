"""The records of a landed or quarantined file of any format."""

from __future__ import annotations

from collections.abc import Iterator

from storage.errors import ContainerError, StorageError
from storage.formats import format_of
from storage.formats.format import Row
from storage.hdfs import Hdfs


def records(fs: Hdfs, path: str) -> Iterator[Row]:
    """(partition, offset, appended_at, event or (key, value)), in the file's order, as a stream.

    Raises StorageError at the first record that can't be read.
    """
    rows = format_of(path).rows
    with fs.open(path) as file:
        try:
            yield from rows(file)
        except ContainerError as error:
            raise StorageError(path, str(error)) from error
