"""What a bench left on HDFS, read back: files, bytes, and the ids of the events in them."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import fastavro
import pyarrow as pa
import pyarrow.parquet as pq

from ingest.codec import HEADER_SIZE
from storage.errors import ContainerError
from storage.hdfs import Entry, Hdfs

_ID = slice(HEADER_SIZE + 1, HEADER_SIZE + 37)  # of a Kafka record's value: the body begins with a text of 36 bytes
_ID_ALONE = {
    "type": "record",
    "name": "Envelope",
    "namespace": "clickstream",
    "fields": [
        {
            "name": "event",
            "type": {"type": "record", "name": "ClickEvent", "fields": [{"name": "event_id", "type": "string"}]},
        }
    ],
}


@dataclass(frozen=True, slots=True)
class Output:
    """Visible files, bytes and records; `exact` when the records' ids are those that were expected, each once."""

    files: int
    bytes: int
    records: int
    exact: bool


def read_back(fs: Hdfs, folder: str, expected: set[str]) -> Output:
    """Reads every file below the folder, but for names that readers skip."""
    files, found = list(_files(fs, folder)), Counter[str]()
    for file in files:
        found.update(ids(file.name, fs.read(file.path)))
    records = found.total()
    exact = found.keys() == expected and records == len(found)
    return Output(len(files), sum(file.size for file in files), records, exact)


def ids(name: str, data: bytes) -> Iterator[str]:
    """Of all events of a file: an Avro container of envelopes or of Kafka's values, or Parquet of either form."""
    if name.endswith(".parquet"):
        return iter(_of_parquet(data))
    if not name.endswith(".avro"):
        raise ContainerError(f"{name} is neither Avro nor Parquet")
    reader: Any = fastavro.reader(io.BytesIO(data))
    if any(field["name"] == "value" for field in reader.writer_schema["fields"]):
        return (row["value"][_ID].decode() for row in reader)
    reader = fastavro.reader(io.BytesIO(data), reader_schema=_ID_ALONE)
    return (row["event"]["event_id"] for row in reader)


def _of_parquet(data: bytes) -> list[str]:
    file = pq.ParquetFile(pa.BufferReader(data))
    if "event" in file.schema_arrow.names:
        column = file.read(columns=["event.event_id"]).column("event").combine_chunks().field("event_id")
    else:
        column = file.read(columns=["event_id"]).column("event_id")
    found: list[str] = column.to_pylist()
    return found


def _files(fs: Hdfs, folder: str) -> Iterator[Entry]:
    for entry in fs.list(folder):
        if entry.name.startswith(("_", ".")):
            continue
        if entry.is_dir:
            yield from _files(fs, entry.path)
        elif entry.size:
            yield entry
