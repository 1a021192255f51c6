"""Takes people out of Parquet files: of landed ones, and of those that hold a row for each visitor."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ingest.erasure import People, anonymised
from storage.containers import FileInfo
from storage.errors import StorageError
from storage.hdfs import Hdfs
from storage.parquet import said_by
from storage.parquet_merge import columns, footer, pieces
from storage.parquet_rows import plain_times
from storage.rewrite import rewrite

_TELLING = ["appended_at", "key", "value", "event.user_id", "event.anonymous_id", "event.received_at"]


def erase_file(fs: Hdfs, path: str, people: People) -> int:
    """As storage/erase.py has it. Raises StorageError."""
    with _reading(fs, path) as file:
        info = said_by(file.metadata)
        count = sum(len(_own(file.read_row_group(at, _TELLING), people)) for at in range(file.num_row_groups))
    if not count:
        return 0

    def write(unfinished: str) -> None:
        fs.create(unfinished, pieces(columns(footer(fs, path)), _row_groups(fs, path, people), info))
        _check(fs, unfinished, info, people)

    rewrite(fs, path, write, overwrite=True)
    return count


def drop_rows(fs: Hdfs, folder: str, column: str, ids: Collection[str]) -> int:
    """Takes the rows with one of these ids out of a folder's files, and says how many they were."""
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
            yield _without(table, _own(table, people))


def _own(table: pa.Table, people: People) -> list[int]:
    """Numbers of the rows that are theirs."""
    if "event" not in table.column_names:
        times = table["appended_at"].cast(pa.int64()).to_pylist()
        rows = zip(times, table["key"].to_pylist(), table["value"].to_pylist(), strict=True)
        return [at for at, row in enumerate(rows) if people.own_plain(*row)]
    event = table["event"].combine_chunks()
    users, visitors = (pa.array(list(ids), pa.string()) for ids in (people.users, people.visitors))
    named = pc.or_(pc.is_in(event.field("user_id"), users), pc.is_in(event.field("anonymous_id"), visitors))
    candidates = pc.indices_nonzero(named).to_pylist()
    rows = plain_times(event.take(pa.array(candidates, pa.int64()))).to_pylist()
    return [at for at, row in zip(candidates, rows, strict=True) if people.own(row)]


def _without(table: pa.Table, rows: list[int]) -> pa.Table:
    """The table with these rows as nobody's."""
    if not rows:
        return table
    if "event" in table.column_names:
        event = table["event"].combine_chunks()
        plain = plain_times(event.take(pa.array(rows, pa.int64())))
        new = pa.array([anonymised(each) for each in plain.to_pylist()], plain.type)
        times = [column.cast(field.type) for column, field in zip(new.flatten(), event.type, strict=True)]
        return _put(table, "event", rows, pa.StructArray.from_arrays(times, fields=list(event.type)))
    for name in ("key", "value"):
        table = _put(table, name, rows, pa.nulls(len(rows), table.schema.field(name).type))
    return table


def _put(table: pa.Table, name: str, rows: list[int], values: Any) -> pa.Table:
    """The table with a column's values in these rows replaced."""
    at, order = table.column_names.index(name), list(range(len(table)))
    for number, row in enumerate(rows):
        order[row] = len(table) + number
    column = pa.concat_arrays([table[name].combine_chunks(), values]).take(pa.array(order))
    return table.set_column(at, table.schema.field(at), column)


def _check(fs: Hdfs, path: str, info: FileInfo, people: People) -> None:
    """Raises StorageError unless the file says what it must, holds as much as it says, and nothing of theirs."""
    with _reading(fs, path) as file:
        says, rows = said_by(file.metadata), file.metadata.num_rows
        left = sum(len(_own(file.read_row_group(at, _TELLING), people)) for at in range(file.num_row_groups))
    if (says, rows, left) != (info, info.records, 0):
        raise StorageError(
            path, f"read back, it is not what was written: {rows} of {info.records} records, {left} left"
        )


@contextmanager
def _reading(fs: Hdfs, path: str) -> Iterator[pq.ParquetFile]:
    """The file, whose errors are StorageErrors."""
    with fs.open(path) as file:
        try:
            yield pq.ParquetFile(file)
        except FileNotFoundError:
            raise
        except (pa.ArrowException, OSError) as error:
            raise StorageError(path, f"can't be read: {error}") from error
