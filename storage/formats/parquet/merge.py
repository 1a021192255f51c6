"""Merges Parquet files that follow one another: the same rows in larger row groups.

The parts' rows are read twice: to write them, and to compare them with what was written; their footers once. Files with
different columns, which a newer schema makes, are not merged.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import zip_longest

import pyarrow as pa
import pyarrow.parquet as pq

from storage.errors import ContainerError, StorageError
from storage.formats.file_info import FileInfo, joined
from storage.formats.format import Codec, Part
from storage.formats.headers import read_enough
from storage.formats.parquet.footer import footer_of, read_footer, said_by
from storage.formats.parquet.writer import ROW_GROUP_BYTES, Chunks, writer_options
from storage.hdfs import Hdfs

_GROUP_BYTES = 4 * ROW_GROUP_BYTES  # of Arrow's


def merge(fs: Hdfs, parts: Sequence[Part], target: str, codec: Codec) -> FileInfo:
    """Format.merge for Parquet; refuses parts with other columns than the first. `codec` is ignored."""
    sources = [_source(part) for part in parts]
    schema, infos = columns(parts[0].head), [source.info for source in sources]
    info = joined(infos, max(info.fingerprint for info in infos))  # of one with none, all others have the same
    fs.create(target, pieces(schema, _row_groups(fs, sources, schema), info))
    with ExitStack() as stack:
        written = _open(fs, target, stack)
        found = (written.read_row_group(at) for at in range(written.num_row_groups))
        pairs = zip_longest(found, _row_groups(fs, sources, schema))
        same = all(a is not None and b is not None and a.equals(b) for a, b in pairs)
        same = same and said_by(written.metadata) == info
    if not same:
        raise StorageError(target, "read back, it is not what was written")
    return info


def part(fs: Hdfs, path: str) -> Part:
    """Format.part for Parquet: the file with its columns and its footer."""
    footer = read_enough(fs.read_tail, path, footer_of)
    return Part(path, str(columns(footer)), footer)


def columns(footer: bytes) -> pa.Schema:
    """The columns of the file, without the metadata."""
    return read_footer(footer).schema.to_arrow_schema().remove_metadata()


@dataclass(frozen=True, slots=True)
class _Source:
    path: str
    footer: bytes  # kept as it is: parsed, it is some times larger
    info: FileInfo


def _source(part: Part) -> _Source:
    try:
        return _Source(part.path, part.head, said_by(read_footer(part.head)))
    except ContainerError as error:
        raise StorageError(part.path, str(error)) from error


def pieces(schema: pa.Schema, tables: Iterator[pa.Table], info: FileInfo) -> Iterator[bytes]:
    """The bytes of a file of these tables, in pieces."""
    sink = Chunks()
    with pq.ParquetWriter(pa.PythonFile(sink, mode="w"), schema, **writer_options(schema)) as writer:
        for table in tables:
            writer.write_table(table, row_group_size=table.num_rows)
            yield from sink.take()
        writer.add_key_value_metadata(info.to_metadata())
    yield from sink.take()


def _row_groups(fs: Hdfs, sources: Sequence[_Source], schema: pa.Schema) -> Iterator[pa.Table]:
    """The parts' rows as tables, split in the same way at each call."""
    waiting: list[pa.Table] = []
    for table in _tables(fs, sources, schema):
        waiting.append(table)
        if sum(part.nbytes for part in waiting) >= _GROUP_BYTES:
            yield pa.concat_tables(waiting)
            waiting = []
    if waiting:
        yield pa.concat_tables(waiting)


def _tables(fs: Hdfs, sources: Sequence[_Source], schema: pa.Schema) -> Iterator[pa.Table]:
    for source in sources:
        with ExitStack() as stack:
            file = _open(fs, source.path, stack, read_footer(source.footer))
            if not file.schema_arrow.equals(schema):
                raise StorageError(source.path, "its columns are not those of the files before it")
            if file.metadata.num_rows != source.info.records:
                text = f"{file.metadata.num_rows} records, but its footer says {source.info.records}"
                raise StorageError(source.path, text)
            for at in range(file.num_row_groups):
                try:
                    yield file.read_row_group(at)
                except (pa.ArrowException, OSError) as error:
                    raise StorageError(source.path, f"row group {at} can't be read: {error}") from error


def _open(fs: Hdfs, path: str, stack: ExitStack, footer: pq.FileMetaData | None = None) -> pq.ParquetFile:
    try:
        return stack.enter_context(pq.ParquetFile(stack.enter_context(fs.open(path)), metadata=footer))
    except pa.ArrowException as error:
        raise StorageError(path, f"not a Parquet file: {error}") from error
