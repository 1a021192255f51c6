"""Landed files: made by the sink's own writer, or by a sink in its corner of the servers; and what is read of them."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import fastavro
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from infra.settings import Settings
from infra.topics import end_offsets
from ingest.event.codec import SCHEMA, encode, split
from ingest.event.event import ClickEvent
from storage.batches import cuts, ledger
from storage.batches.cuts import Cut
from storage.batches.ledger import BatchLedger
from storage.hdfs import Hdfs
from storage.layout import Layout, visible
from tests.support.corners import own_topics, publish_schema
from tests.support.events import event
from tests.support.servers import RunningSink
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from storage.hdfs import Hdfs
    from storage.layout import Layout

from functools import cache

from ingest.event import codec
from storage.formats import FORMATS
from storage.formats.file_info import Reason
from storage.formats.format import Codec
from storage.formats.records import records
from storage.formats.schemas import SchemaRegistry
from storage.hdfs import Hdfs
from storage.landed import position
from storage.layout import Layout
from storage.sink.rolling import Limits
from storage.sink.writer import PartitionWriter, Records

NEWER: dict[str, Any] = json.loads(json.dumps(codec.SCHEMA))
NEWER["fields"].append({"name": "added", "type": ["null", "string"], "default": None})
UNREADABLE = b"not an event"
Rows = list[tuple[int, int, int, Any]]


def newer_event(message: str) -> bytes:
    return codec.MARKER + codec.schema_fingerprint(NEWER) + codec.split(event(message))[1] + b"\x02\x06new"


@cache
def known() -> SchemaRegistry:
    """Both schemas."""
    registry = SchemaRegistry()
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
        format_: str = "avro",
    ) -> None:
        self.fs, self.layout, self.partition = fs, layout, partition
        self.writer = PartitionWriter(
            layout,
            partition,
            position(fs, layout, partition),
            format_=FORMATS[format_],
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


def land(settings: Settings, name: str, clicks: Mapping[int, Sequence[ClickEvent]]) -> Cut:
    """Puts events on HDFS as the sink does, one file per partition after the last cut, and takes cut `name`."""
    from storage.batches import cuts
    from storage.formats.avro.writer import Container
    from storage.formats.envelope import event_envelope
    from storage.formats.file_info import FileInfo
    from storage.hdfs import Hdfs
    from storage.layout import Layout

    fs, layout = Hdfs(settings), Layout(settings.hdfs.root, settings.kafka.topic)
    last = cuts.newest(fs, layout)
    ends = dict(last.ends) if last else {}
    for partition, landed in clicks.items():
        start = ends.get(partition, 0)
        ends[partition] = start + len(landed)
        if not landed:
            continue
        container = Container(event_envelope(SCHEMA), partition, settings.sink.codec)
        for offset, one in enumerate(landed, start):
            container.add(offset, one.received_at, split(encode(one))[1])
        info = FileInfo(layout.topic, partition, start, ends[partition] - 1, container.finish())
        path = f"{layout.raw(partition)}/{layout.file(partition, info.first, info.last, 'avro')}"
        fs.create(path, container.file(info), create_parents=True)
    return cuts.take(fs, layout, name, lambda: ends)


class Landing:
    """One corner: its files and its ledgers."""

    def __init__(self, settings: Settings) -> None:
        self.settings, self.fs = settings, Hdfs(settings)
        self.layout = Layout(settings.hdfs.root, settings.kafka.topic)
        self.rejected = Layout(settings.hdfs.root, settings.kafka.rejected_topic)

    def cut(self, name: str) -> Cut:
        return cuts.take(self.fs, self.layout, name, lambda: end_offsets(self.settings, self.layout.topic))

    def landed(self, cut: Cut, sink: RunningSink | None = None, seconds: float = 60.0) -> BatchLedger:
        """Waits for the landing gate."""
        eventually(lambda: ledger.current(self.fs, self.layout, cut).landed_complete, seconds, sink)
        return ledger.current(self.fs, self.layout, cut)

    def files(self, layout: Layout, partition: int, root: str = "") -> list[str]:
        folder = f"{root or layout.raw(partition)}/b=0000000000"
        return [f"{folder}/{file.name}" for file in visible(self.fs.names(folder))]

    def rows(self, layout: Layout, partition: int, root: str = "") -> list[Any]:
        files = self.files(layout, partition, root)
        return [row for file in files for row in fastavro.reader(io.BytesIO(self.fs.read(file)))]

    def forget_before(self, offset: int) -> None:
        """Does to partition 0 what retention does."""
        admin = AdminClient({"bootstrap.servers": self.settings.kafka.address})
        for future in admin.delete_records([TopicPartition(self.layout.topic, 0, offset)]).values():
            future.result(30)

    def messages(self, partition: int) -> list[tuple[int, str]]:
        return [(row["offset"], row["event"]["message_id"]) for row in self.rows(self.layout, partition)]


def landing(cluster: Settings, partitions: int = 1, **sink: Any) -> Landing:
    corner = Landing(own_topics(cluster, partitions, **sink))
    publish_schema(corner.settings)
    return corner


def holding(sink: RunningSink, partitions: int = 2) -> RunningSink:
    """Waits until it owns this many partitions and has read something of them."""
    eventually(lambda: sink.value("partitions") == partitions and sink.value("open_bytes") > 0, worker=sink)
    return sink
