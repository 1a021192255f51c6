"""One Parquet file from several that follow one another: their rows in larger row groups, none of them changed.

The parts' rows are read twice: to write them, and to compare each row group of what was written with them; their
footers once. Parts whose columns differ, since a newer schema came between, do not become one file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import zip_longest

import pyarrow as pa
import pyarrow.parquet as pq

from storage.containers import FileInfo
from storage.errors import ContainerError, StorageError
from storage.hdfs import Hdfs
from storage.headers import enough
from storage.merge import joined
from storage.parquet import ROW_GROUP_BYTES, Chunks, footer_of, read_footer, said_by, writer_options

_GROUP_BYTES = 4 * ROW_GROUP_BYTES  # of Arrow's


def merge(fs: Hdfs, paths: Sequence[str], target: str, footers: Sequence[bytes] = ()) -> FileInfo:
    """Writes the parts as one file under the (temporary) name `target`; what its footer says.

    `footers` are the parts', read here if there are none. Raises StorageError, with the part's path, for parts that
    can't be read, do not hold what they say or have other columns than the first; with the target's when that, read
    back, is not what was written.
    """
    parts = [_part(path, said) for path, said in zip(paths, footers or [footer(fs, p) for p in paths], strict=True)]
    schema, infos = columns(parts[0].footer), [part.info for part in parts]
    info = joined(infos, max(info.fingerprint for info in infos))  # of one with none, all others have the same
    fs.create(target, pieces(schema, _row_groups(fs, parts, schema), info))
    with ExitStack() as stack:
        written = _open(fs, target, stack)
        found = (written.read_row_group(at) for at in range(written.num_row_groups))
        pairs = zip_longest(found, _row_groups(fs, parts, schema))
        same = all(a is not None and b is not None and a.equals(b) for a, b in pairs)
        same = same and said_by(written.metadata) == info
    if not same:
        raise StorageError(target, "read back, it is not what was written")
    return info


def footer(fs: Hdfs, path: str) -> bytes:
    """The file's last bytes, from where its footer begins. Raises StorageError."""
    return enough(fs.read_tail, path, footer_of)


def columns(footer: bytes) -> pa.Schema:
    """Those of the file, without what its footer says of itself."""
    return read_footer(footer).schema.to_arrow_schema().remove_metadata()


@dataclass(frozen=True, slots=True)
class _Part:
    path: str
    footer: bytes  # kept as it is: read, it is some times larger
    info: FileInfo


def _part(path: str, footer: bytes) -> _Part:
    try:
        return _Part(path, footer, said_by(read_footer(footer)))
    except ContainerError as error:
        raise StorageError(path, str(error)) from error


def pieces(schema: pa.Schema, tables: Iterator[pa.Table], info: FileInfo) -> Iterator[bytes]:
    """The file in pieces, as they come."""
    sink = Chunks()
    with pq.ParquetWriter(pa.PythonFile(sink, mode="w"), schema, **writer_options(schema)) as writer:
        for table in tables:
            writer.write_table(table, row_group_size=table.num_rows)
            yield from sink.take()
        writer.add_key_value_metadata(info.to_metadata())
    yield from sink.take()


def _row_groups(fs: Hdfs, parts: Sequence[_Part], schema: pa.Schema) -> Iterator[pa.Table]:
    """The parts' rows in the same tables each time."""
    waiting: list[pa.Table] = []
    for table in _tables(fs, parts, schema):
        waiting.append(table)
        if sum(part.nbytes for part in waiting) >= _GROUP_BYTES:
            yield pa.concat_tables(waiting)
            waiting = []
    if waiting:
        yield pa.concat_tables(waiting)


def _tables(fs: Hdfs, parts: Sequence[_Part], schema: pa.Schema) -> Iterator[pa.Table]:
    for part in parts:
        with ExitStack() as stack:
            file = _open(fs, part.path, stack, read_footer(part.footer))
            if not file.schema_arrow.equals(schema):
                raise StorageError(part.path, "its columns are not those of the files before it")
            if file.metadata.num_rows != part.info.records:
                text = f"{file.metadata.num_rows} records, but its footer says {part.info.records}"
                raise StorageError(part.path, text)
            for at in range(file.num_row_groups):
                try:
                    yield file.read_row_group(at)
                except (pa.ArrowException, OSError) as error:
                    raise StorageError(part.path, f"row group {at} can't be read: {error}") from error


def _open(fs: Hdfs, path: str, stack: ExitStack, footer: pq.FileMetaData | None = None) -> pq.ParquetFile:
    try:
        return stack.enter_context(pq.ParquetFile(stack.enter_context(fs.open(path)), metadata=footer))
    except pa.ArrowException as error:
        raise StorageError(path, f"not a Parquet file: {error}") from error
