"""Parquet files from bodies that are encoded already, with the columns of their Avro schema. No I/O but in memory.

Bodies are kept until they are enough for a row group; it is then decoded, encoded and compressed beside what the sink
does meanwhile. The footer's key-value metadata are those that an Avro container has in its header.
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

from storage.bodies import Decoder, decoder
from storage.containers import Encoded, FileInfo, body_fields
from storage.errors import ContainerError

# In memory: some 15,000 events, 1.5 MB in the file. Eight times as many would save 4 % of it, and take hundreds of MB.
ROW_GROUP_BYTES = 8 << 20
_ROW_OVERHEAD = 100  # bytes that Python's objects take beside what they hold
_THREADS = 4  # at most; each needs some three times a row group's bytes
_TAIL = 8  # bytes: the footer's length, and the magic
_MAGIC = b"PAR1"
_TIME = pa.timestamp("ms", "UTC")
_HEAD = [
    pa.field("partition", pa.int32(), nullable=False),
    pa.field("offset", pa.int64(), nullable=False),
    pa.field("appended_at", _TIME, nullable=False),
]
# Texts that hardly come twice, so a dictionary would be built in vain, and their least and greatest say nothing.
_DISTINCT = {"value", "event.event_id", "event.message_id", "event.impression_id", "event.order_id"}
_BY_DICTIONARY = ("BYTE_ARRAY", "INT32")


class ParquetFile:
    """A RecordFile of Parquet; `schema` is that of the Avro envelope. Rows are in order of their offsets."""

    def __init__(self, schema: Mapping[str, Any], partition: int) -> None:
        self._decoder, options = _format(body_fields(schema))
        self._partition = partition
        self._schema = pa.schema([*_HEAD, *self._decoder.schema])
        self._sink = Chunks()
        self._writer = pq.ParquetWriter(pa.PythonFile(self._sink, mode="w"), self._schema, **options)
        self._rows = _Rows()
        self._flight: Future[None] | None = None
        self._pending = self._flying = self._converted = 0
        self._records = 0
        self.unread: list[Encoded] = []

    @property
    def size(self) -> int:
        return self._sink.size + self._pending + self._flying

    @property
    def length(self) -> int:
        """What waits is supposed to shrink as what was written before it did; six times, before that."""
        waiting = self._pending + self._flying
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
        self._settle()
        self.unread.sort(key=itemgetter(0))
        return self._records

    def file(self, info: FileInfo) -> list[bytes]:
        self._writer.add_key_value_metadata(info.to_metadata())
        self._writer.close()
        return self._sink.chunks

    def _convert(self) -> None:
        """Hands over what waits; one row group after another, so this may itself wait for the last one."""
        self._settle()
        if self._rows.bodies:
            self._flight = _pool().submit(self._write, self._rows)
            self._flying, self._rows, self._pending = self._pending, _Rows(), 0

    def _settle(self) -> None:
        if self._flight is not None:
            self._flight.result()
            self._converted += self._flying
            self._flight, self._flying = None, 0

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
    """Records by column, as Arrow wants them."""

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
    """What pyarrow writes to: it keeps the pieces, until they are taken."""

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


def read_info(tail: bytes) -> FileInfo:
    """What a file's last bytes say. Raises ContainerError, `truncated` when they are too few."""
    return said_by(read_footer(footer_of(tail)))


def footer_of(tail: bytes) -> bytes:
    """Of a file's last bytes those from where its footer begins. Raises ContainerError, `truncated` when too few."""
    if tail[-4:] != _MAGIC:
        raise ContainerError("not a Parquet file")
    size = int.from_bytes(tail[-_TAIL:-4], "little") + _TAIL
    if len(tail) < size:
        raise ContainerError("the footer is longer than what was read of it", truncated=True)
    return tail[-size:]


def read_footer(footer: bytes) -> pq.FileMetaData:
    """A footer, parsed. Raises ContainerError."""
    try:
        return pq.read_metadata(pa.BufferReader(footer))
    except (pa.ArrowException, OSError) as error:
        raise ContainerError(f"the footer can't be read: {error}") from error


def said_by(footer: pq.FileMetaData) -> FileInfo:
    """What a footer says of its file. Raises ContainerError."""
    return FileInfo.from_metadata({name.decode(): value for name, value in (footer.metadata or {}).items()})


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1), thread_name_prefix="parquet")


@cache
def _format(fields: str) -> tuple[Decoder, dict[str, Any]]:
    """How to read bodies of these fields, in JSON, and what pyarrow is to do with their columns."""
    of_bodies = decoder(fields)
    return of_bodies, writer_options(pa.schema([*_HEAD, *of_bodies.schema]))


def writer_options(schema: pa.Schema) -> dict[str, Any]:
    """What pyarrow's writer is to do with the columns of an envelope."""
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
    """Path of each column -> its physical type, as Parquet has them."""
    out = io.BytesIO()
    pq.write_table(schema.empty_table(), out)
    columns = pq.read_metadata(out).schema
    return {columns.column(at).path: columns.column(at).physical_type for at in range(len(columns))}


def _repeated(path: str) -> bool:
    """Whether the column lies in a map or list."""
    return ".key_value." in path or ".list." in path
