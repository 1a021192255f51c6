"""Reads the records of a Parquet file. No I/O but on the file given."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, BinaryIO

from storage.errors import ContainerError
from storage.formats.format import Row

_ROWS = 4_000


def rows(file: BinaryIO) -> Iterator[Row]:
    """The records; an event's maps are lists of pairs. Raises ContainerError at the first that can't be read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(file) as reader:
            is_event = "event" in reader.schema_arrow.names
            for batch in reader.iter_batches(_ROWS):
                times = batch.column("appended_at").cast(pa.int64()).to_pylist()
                head = zip(
                    batch.column("partition").to_pylist(), batch.column("offset").to_pylist(), times, strict=True
                )
                values = (
                    plain_times(batch.column("event")).to_pylist()
                    if is_event
                    else zip(batch.column("key").to_pylist(), batch.column("value").to_pylist(), strict=True)
                )
                yield from ((*place, value) for place, value in zip(head, values, strict=True))
    except (pa.ArrowException, OSError) as error:
        raise ContainerError(f"the rows can't be read: {error}") from error


def plain_times(event: Any) -> Any:
    """The struct with its times as integers: a datetime can't represent all of them."""
    import pyarrow as pa

    columns = [c.cast(pa.int64()) if pa.types.is_timestamp(c.type) else c for c in event.flatten()]
    return pa.StructArray.from_arrays(columns, [field.name for field in event.type])
