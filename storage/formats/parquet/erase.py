"""Erases people from Parquet files: landed ones, and tables with a row for each visitor."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ingest.event.anonymise import People
from storage.errors import StorageError
from storage.formats.arrow_erase import anonymised_rows, own_rows
from storage.formats.file_info import FileInfo
from storage.formats.parquet.footer import said_by
from storage.formats.parquet.merge import columns, part, pieces
from storage.hdfs import Hdfs
from storage.rewrite import rewrite

_TELLING = ["appended_at", "key", "value", "event.user_id", "event.anonymous_id", "event.received_at"]


def erase_file(fs: Hdfs, path: str, people: People) -> int:
    """Format.erase for Parquet. Raises StorageError."""
    with _reading(fs, path) as file:
        info = said_by(file.metadata)
        count = sum(len(own_rows(file.read_row_group(at, _TELLING), people)) for at in range(file.num_row_groups))
    if not count:
        return 0

    def write(unfinished: str) -> None:
        fs.create(unfinished, pieces(columns(part(fs, path).head), _row_groups(fs, path, people), info))
        _check(fs, unfinished, info, people)

    rewrite(fs, path, write, overwrite=True)
    return count


def drop_rows(fs: Hdfs, folder: str, column: str, ids: Collection[str]) -> int:
    """Deletes the rows with one of these ids from a folder's Parquet files; returns how many rows that were."""
    paths = [f"{folder}/{name}" for name in fs.names(folder) if name.endswith(".parquet")]
    return sum(_drop_rows(fs, path, column, ids) for path in paths)


def _drop_rows(fs: Hdfs, path: str, column: str, ids: Collection[str]) -> int:
    with _reading(fs, path) as file:
        table = file.read()
    own = pc.is_in(table[column].cast(pa.string()), value_set=pa.array(list(ids), pa.string()))
    kept = table.filter(pc.invert(own))
    if len(kept) < len(table):
        out = pa.BufferOutputStream()
        pq.write_table(kept, out)
        data = out.getvalue().to_pybytes()
        rewrite(fs, path, lambda unfinished: fs.create(unfinished, [data]), overwrite=True)
    return len(table) - len(kept)


def _row_groups(fs: Hdfs, path: str, people: People) -> Iterator[pa.Table]:
    with _reading(fs, path) as file:
        for at in range(file.num_row_groups):
            table = file.read_row_group(at)
            yield anonymised_rows(table, own_rows(table, people))


def _check(fs: Hdfs, path: str, info: FileInfo, people: People) -> None:
    """Raises StorageError unless the file has this footer, as many records as it says, and none of these people."""
    with _reading(fs, path) as file:
        says, rows = said_by(file.metadata), file.metadata.num_rows
        left = sum(len(own_rows(file.read_row_group(at, _TELLING), people)) for at in range(file.num_row_groups))
    if (says, rows, left) != (info, info.records, 0):
        raise StorageError(
            path, f"read back, it is not what was written: {rows} of {info.records} records, {left} left"
        )


@contextmanager
def _reading(fs: Hdfs, path: str) -> Iterator[pq.ParquetFile]:
    """The open file; its errors are raised as StorageError."""
    with fs.open(path) as file:
        try:
            yield pq.ParquetFile(file)
        except FileNotFoundError:
            raise
        except (pa.ArrowException, OSError) as error:
            raise StorageError(path, f"can't be read: {error}") from error
