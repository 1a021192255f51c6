"""Reads a bench's output back from HDFS: files, bytes, and the ids of the events in them."""

from __future__ import annotations

import io
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import fastavro
import pyarrow.dataset as ds

from ingest.event.codec import HEADER_SIZE
from storage.formats import format_of
from storage.formats.format import Format
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
    """Number of files, bytes and records. `exact`: the records have the expected ids, each exactly once."""

    files: int
    bytes: int
    records: int
    exact: bool


def read_back(fs: Hdfs, folder: str, expected: set[str]) -> Output:
    """Reads every file below the folder, without names that readers skip."""
    files, found = list(_files(fs, folder)), Counter[str]()
    for file in files:
        found.update(ids(file.name, fs.read(file.path)))
    records = found.total()
    exact = found.keys() == expected and records == len(found)
    return Output(len(files), sum(file.size for file in files), records, exact)


def ids(name: str, data: bytes) -> Iterator[str]:
    """Event ids of a file, be it of the sink's envelopes, or of Kafka's values or an event's columns as Spark writes.

    Raises StorageError for a file of no known format.
    """
    format_ = format_of(name)
    if format_.columnar:
        return iter(_of_columns(format_, data))
    reader: Any = fastavro.reader(io.BytesIO(data))
    if any(field["name"] == "value" for field in reader.writer_schema["fields"]):
        return (row["value"][_ID].decode() for row in reader)
    reader = fastavro.reader(io.BytesIO(data), reader_schema=_ID_ALONE)
    return (row["event"]["event_id"] for row in reader)


def _of_columns(format_: Format, data: bytes) -> list[str]:
    """Event ids of a columnar file; Arrow names such formats as Spark does."""
    with open(os.memfd_create("output"), "wb") as file:
        file.write(data)
        file.flush()
        dataset = ds.dataset(f"/proc/self/fd/{file.fileno()}", format=format_.spark_source)
        place = ("event", "event_id") if "event" in dataset.schema.names else ("event_id",)
        column = dataset.to_table(columns={"event_id": ds.field(*place)}).column("event_id")
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
