"""Writes Parquet files in memory from encoded Avro bodies, with the columns of their schema.

Bodies are collected until they fill a row group, which a thread then decodes, encodes and compresses. The footer's
key-value metadata are the same as those in the header of an Avro container.
"""

from __future__ import annotations

import io
import os
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from itertools import compress
from operator import itemgetter, not_
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from storage.errors import ContainerError
from storage.formats.arrow_decoder import Decoder, decoder
from storage.formats.envelope import body_fields
from storage.formats.file_info import FileInfo
from storage.formats.format import Encoded

# Of bodies in memory: some 15,000 events, 1.5 MB in the file. Eight times as much would save 4 %, for hundreds of MB.
ROW_GROUP_BYTES = 8 << 20
_ROW_OVERHEAD = 100  # bytes that Python's objects take beside what they hold
_THREADS = 4  # at most; each needs some three times ROW_GROUP_BYTES
_TIME = pa.timestamp("ms", "UTC")
_HEAD = [
    pa.field("partition", pa.int32(), nullable=False),
    pa.field("offset", pa.int64(), nullable=False),
    pa.field("appended_at", _TIME, nullable=False),
]
# Almost unique texts: a dictionary would be built in vain, and their minimum and maximum are useless.
_DISTINCT = {"value", "event.event_id", "event.message_id", "event.impression_id", "event.order_id"}
_BY_DICTIONARY = ("BYTE_ARRAY", "INT32")


class ParquetFile:
    """A RecordFile of Parquet; `schema` is that of the Avro envelope. Rows are sorted by offset."""

    def __init__(self, schema: Mapping[str, Any], partition: int) -> None:
        self._decoder, options = _decoder_and_options(body_fields(schema))
        self._partition = partition
        self._schema = pa.schema([*_HEAD, *self._decoder.schema])
        self._sink = Chunks()
        self._writer = pq.ParquetWriter(pa.PythonFile(self._sink, mode="w"), self._schema, **options)
        self._rows = _Rows()
        self._writing: Future[None] | None = None
        self._pending = self._writing_size = self._converted = 0
        self._records = 0
        self.unread: list[Encoded] = []

    @property
    def size(self) -> int:
        return self._sink.size + self._pending + self._writing_size

    @property
    def length(self) -> int:
        """Bodies not written yet count with the ratio of those that were; with one sixth before the first row group."""
        waiting = self._pending + self._writing_size
        return self._sink.size + (waiting * self._sink.size // self._converted if self._converted else waiting // 6)

    def add(self, offset: int, appended_at: int, body: bytes, key: bytes | None = None) -> None:
        self.extend(offset, (appended_at,), (body,), (key,), len(body))

    def extend(
        self, first: int, times: Sequence[int], bodies: Sequence[bytes], keys: Sequence[bytes | None], size: int
    ) -> None:
        rows = self._rows
        rows.offsets.extend(range(first, first + len(bodies)))
        rows.times.extend(times)
        rows.keys += keys
        rows.bodies += bodies
        self._pending += size + sum(len(key or b"") for key in keys) + _ROW_OVERHEAD * len(bodies)
        if self._pending >= ROW_GROUP_BYTES:
            self._convert()

    def finish(self) -> int:
        self._convert()
        self._finish_row_group()
        self.unread.sort(key=itemgetter(0))
        return self._records

    def file(self, info: FileInfo) -> list[bytes]:
        self._writer.add_key_value_metadata(info.to_metadata())
        self._writer.close()
        return self._sink.chunks

    def _convert(self) -> None:
        """Starts writing the collected bodies as a row group, after the last one is written."""
        self._finish_row_group()
        if self._rows.bodies:
            self._writing = _pool().submit(self._write, self._rows)
            self._writing_size, self._rows, self._pending = self._pending, _Rows(), 0

    def _finish_row_group(self) -> None:
        if self._writing is not None:
            self._writing.result()
            self._converted += self._writing_size
            self._writing, self._writing_size = None, 0

    def _write(self, rows: _Rows) -> None:
        try:
            batch = self._batch(rows)
        except ContainerError:
            sound = self._decoder.sound(rows.bodies)
            self.unread += rows.only(map(not_, sound)).records()
            if not any(sound):
                return
            batch = self._batch(rows.only(sound))
        self._writer.write_batch(batch, row_group_size=batch.num_rows)
        self._records += batch.num_rows

    def _batch(self, rows: _Rows) -> pa.RecordBatch:
        count = len(rows.bodies)
        head = [
            pa.repeat(pa.scalar(self._partition, pa.int32()), count),
            pa.Array.from_buffers(pa.int64(), count, [None, pa.py_buffer(rows.offsets)]),
            pa.Array.from_buffers(_TIME, count, [None, pa.py_buffer(rows.times)]),
        ]
        return pa.RecordBatch.from_arrays([*head, *self._decoder.decode(rows.bodies)], schema=self._schema)


class _Rows:
    """Records by column."""

    __slots__ = ("bodies", "keys", "offsets", "times")

    def __init__(self, records: Iterable[Encoded] = ()) -> None:
        offsets, times, keys, bodies = zip(*records, strict=True) if (records := list(records)) else ((), (), (), ())
        self.offsets, self.times = array("q", offsets), array("q", times)
        self.keys: list[bytes | None] = list(keys)
        self.bodies: list[bytes] = list(bodies)

    def records(self) -> Iterator[Encoded]:
        return zip(self.offsets, self.times, self.keys, self.bodies, strict=True)

    def only(self, chosen: Iterable[bool]) -> _Rows:
        return _Rows(compress(self.records(), chosen))


class Chunks:
    """A file object for pyarrow that keeps the pieces written until they are taken."""

    closed = False

    def __init__(self) -> None:
        self.chunks: list[bytes] = []
        self.size = 0

    def write(self, data: bytes) -> int:
        self.chunks.append(data)
        self.size += len(data)
        return len(data)

    def take(self) -> list[bytes]:
        taken, self.chunks = self.chunks, []
        return taken

    def flush(self) -> None: ...

    def close(self) -> None: ...


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1), thread_name_prefix="parquet")


@cache
def _decoder_and_options(fields: str) -> tuple[Decoder, dict[str, Any]]:
    """The decoder of bodies with these fields, given in JSON, and pyarrow's options for their columns."""
    of_bodies = decoder(fields)
    return of_bodies, writer_options(pa.schema([*_HEAD, *of_bodies.schema]))


def writer_options(schema: pa.Schema) -> dict[str, Any]:
    """Options of pyarrow's writer for the columns of an envelope."""
    types = _leaves(schema)
    return {
        "compression": "zstd",
        "compression_level": 1,
        "store_schema": False,  # Arrow's own: enums would come back as dictionaries
        "sorting_columns": pq.SortingColumn.from_ordering(schema, [("offset", "ascending")]),
        "write_page_index": True,
        "write_statistics": [path for path in types if path not in _DISTINCT and not _repeated(path)],
        "use_dictionary": [path for path, type_ in types.items() if type_ in _BY_DICTIONARY and path not in _DISTINCT],
        "column_encoding": {path: "DELTA_BINARY_PACKED" for path, type_ in types.items() if type_ == "INT64"},
    }


def _leaves(schema: pa.Schema) -> dict[str, str]:
    """Path of each Parquet column -> its physical type."""
    out = io.BytesIO()
    pq.write_table(schema.empty_table(), out)
    columns = pq.read_metadata(out).schema
    return {columns.column(at).path: columns.column(at).physical_type for at in range(len(columns))}


def _repeated(path: str) -> bool:
    """Whether the column is inside a map or a list."""
    return ".key_value." in path or ".list." in path
