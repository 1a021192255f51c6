"""One Parquet file from several that follow one another: their rows in larger row groups, none of them changed.

The parts are read twice: to write them, and to compare each row group of what was written with them. Parts whose
columns differ, since a newer schema came between, do not become one file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from itertools import zip_longest

import pyarrow as pa
import pyarrow.parquet as pq

from storage.containers import FileInfo
from storage.errors import StorageError
from storage.hdfs import Hdfs
from storage.ledger import file_info
from storage.merge import joined
from storage.parquet import ROW_GROUP_BYTES, Chunks, said_by, writer_options

_GROUP_BYTES = 4 * ROW_GROUP_BYTES  # of Arrow's


def merge(fs: Hdfs, paths: Sequence[str], target: str) -> FileInfo:
    """Writes the parts as one file under the (temporary) name `target`; what its footer says.

    Raises StorageError, with the part's path, for parts that can't be read, do not hold what they say or have other
    columns than the first; with the target's when that, read back, is not what was written.
    """
    schema = columns(fs, paths[0])
    infos = [file_info(fs, path) for path in paths]
    info = joined(infos, max(info.fingerprint for info in infos))  # of one with none, all others have the same
    fs.create(target, _file(schema, _row_groups(fs, paths, schema), info))
    with ExitStack() as stack:
        written = _open(fs, target, stack)
        found = (written.read_row_group(at) for at in range(written.num_row_groups))
        pairs = zip_longest(found, _row_groups(fs, paths, schema))
        same = all(a is not None and b is not None and a.equals(b) for a, b in pairs)
        same = same and said_by(written.metadata) == info
    if not same:
        raise StorageError(target, "read back, it is not what was written")
    return info


def columns(fs: Hdfs, path: str) -> pa.Schema:
    """Those of the file, without what its footer says of itself. Raises StorageError."""
    with ExitStack() as stack:
        return _open(fs, path, stack).schema_arrow.remove_metadata()


def _file(schema: pa.Schema, tables: Iterator[pa.Table], info: FileInfo) -> Iterator[bytes]:
    """The file in pieces, as they come."""
    sink = Chunks()
    with pq.ParquetWriter(pa.PythonFile(sink, mode="w"), schema, **writer_options(schema)) as writer:
        for table in tables:
            writer.write_table(table, row_group_size=table.num_rows)
            yield from sink.take()
        writer.add_key_value_metadata(info.to_metadata())
    yield from sink.take()


def _row_groups(fs: Hdfs, paths: Sequence[str], schema: pa.Schema) -> Iterator[pa.Table]:
    """The parts' rows in the same tables each time."""
    waiting: list[pa.Table] = []
    for table in _tables(fs, paths, schema):
        waiting.append(table)
        if sum(part.nbytes for part in waiting) >= _GROUP_BYTES:
            yield pa.concat_tables(waiting)
            waiting = []
    if waiting:
        yield pa.concat_tables(waiting)


def _tables(fs: Hdfs, paths: Sequence[str], schema: pa.Schema) -> Iterator[pa.Table]:
    for path in paths:
        with ExitStack() as stack:
            part = _open(fs, path, stack)
            said = said_by(part.metadata)
            if not part.schema_arrow.equals(schema):
                raise StorageError(path, "its columns are not those of the files before it")
            if part.metadata.num_rows != said.records:
                raise StorageError(path, f"{part.metadata.num_rows} records, but its footer says {said.records}")
            for at in range(part.num_row_groups):
                try:
                    yield part.read_row_group(at)
                except (pa.ArrowException, OSError) as error:
                    raise StorageError(path, f"row group {at} can't be read: {error}") from error


def _open(fs: Hdfs, path: str, stack: ExitStack) -> pq.ParquetFile:
    try:
        return stack.enter_context(pq.ParquetFile(stack.enter_context(fs.open(path))))
    except pa.ArrowException as error:
        raise StorageError(path, f"not a Parquet file: {error}") from error
