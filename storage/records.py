"""The records of a landed or quarantined file, whatever its format."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import BinaryIO

from storage import blocks, parquet_rows
from storage.blocks import Row
from storage.errors import ContainerError, StorageError
from storage.hdfs import Hdfs

_READERS: dict[str, Callable[[BinaryIO], Iterator[Row]]] = {"avro": blocks.rows, "parquet": parquet_rows.rows}


def records(fs: Hdfs, path: str) -> Iterator[Row]:
    """(partition, offset, appended_at, event or (key, value)), in the file's order; as streams, never all at once.

    Raises StorageError where a record can't be read, after those before it.
    """
    suffix = path.rsplit(".", 1)[-1]
    if suffix not in _READERS:
        raise StorageError(path, f"no reader for {suffix!r}")
    with fs.open(path) as file:
        try:
            yield from _READERS[suffix](file)
        except ContainerError as error:
            raise StorageError(path, str(error)) from error
