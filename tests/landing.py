"""Landed files for tests, made by the sink's own writer; and what can be read of them again."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from ingest import codec
from storage.containers import Codec, Format, Reason
from storage.epochs import position
from storage.hdfs import Hdfs
from storage.layout import Layout, visible
from storage.partition import PartitionWriter, Records
from storage.records import records
from storage.rolling import Limits
from storage.schemas import Registry
from tests.integration.sandbox import event

NEWER: dict[str, Any] = json.loads(json.dumps(codec.SCHEMA))
NEWER["fields"].append({"name": "added", "type": ["null", "string"], "default": None})
UNREADABLE = b"not an event"
Rows = list[tuple[int, int, int, Any]]


def newer_event(message: str) -> bytes:
    return codec.MARKER + codec.schema_fingerprint(NEWER) + codec.split(event(message))[1] + b"\x02\x06new"


@cache
def known() -> Registry:
    """Both schemas."""
    registry = Registry()
    for schema in (codec.SCHEMA, NEWER):
        registry.add(schema)
    return registry


class Lander:
    """Lands one partition's values from where its files end; a new one does not know what another had open."""

    def __init__(
        self,
        fs: Hdfs,
        layout: Layout,
        partition: int = 0,
        codec_: Codec = "zstandard",
        plain: bool = False,
        format_: Format = "avro",
    ) -> None:
        self.fs, self.layout, self.partition = fs, layout, partition
        self.writer = PartitionWriter(
            layout,
            partition,
            position(fs, layout, partition),
            format_=format_,
            codec_=codec_,
            limits=Limits(max_bytes=1 << 30, max_records=1 << 30, max_age_seconds=1e9),
            registry=None if plain else known(),
        )

    def events(self, count: int) -> Lander:
        """So many events, their ids made of partition and offset."""
        return self.values(*(event(f"{self.partition}-{self.writer.end + n}") for n in range(count)))

    def values(self, *values: bytes | None) -> Lander:
        end = self.writer.end
        rows = [(end + n, 1_700_000_000_000 + end + n, b"key", value) for n, value in enumerate(values)]
        assert self.writer.append(Records.of(rows), lambda offset: "kafka") == len(values)
        return self

    def gap(self, count: int, reason: Reason = "kafka") -> Lander:
        self.writer.skip(self.writer.end + count - 1, reason)
        return self

    def file(self) -> str:
        """Publishes what was taken since as one file; its path."""
        self.writer.seal("age")
        (sealed,) = self.writer.sealed
        self.writer.sealed.clear()
        if sealed.quarantine:
            self._put(f"{self.layout.quarantine(self.partition)}/{sealed.name}", sealed.quarantine)
        return self._put(f"{self.layout.raw(self.partition)}/{sealed.name}", sealed.chunks)

    def _put(self, path: str, chunks: list[bytes]) -> str:
        self.fs.create(path, chunks, create_parents=True)
        return path


def files(fs: Hdfs, layout: Layout, partition: int = 0) -> list[str]:
    """The visible files, by offset."""
    root = layout.raw(partition)
    return [
        f"{root}/{bucket}/{file.name}" for bucket in fs.names(root) for file in visible(fs.names(f"{root}/{bucket}"))
    ]


def rows(fs: Hdfs, layout: Layout, partition: int = 0) -> Rows:
    """All records that readers see; events as the newest schema has them."""
    found = []
    for path in files(fs, layout, partition):
        for number, offset, appended_at, body in records(fs, path):
            found.append((number, offset, appended_at, {"added": None, **body} if isinstance(body, dict) else body))
    return found
