"""One sink's corner of the shared servers: what it has landed, read back from HDFS."""

from __future__ import annotations

import io
from typing import Any

import fastavro
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from infra.settings import Settings
from infra.topics import end_offsets
from storage import batches, ledger
from storage.batches import Cut
from storage.hdfs import Hdfs
from storage.layout import Layout, visible
from storage.ledger import BatchLedger
from tests.integration.sandbox import RunningSink, own_topics, publish_schema
from tests.waiting import eventually


class Landing:
    """One corner: its files and its ledgers."""

    def __init__(self, settings: Settings) -> None:
        self.settings, self.fs = settings, Hdfs(settings)
        self.layout = Layout(settings.hdfs.root, settings.kafka.topic)
        self.rejected = Layout(settings.hdfs.root, settings.kafka.rejected_topic)

    def cut(self, name: str) -> Cut:
        return batches.take(self.fs, self.layout, name, lambda: end_offsets(self.settings, self.layout.topic))

    def landed(self, cut: Cut, sink: RunningSink | None = None, seconds: float = 60.0) -> BatchLedger:
        """Waits for the landing gate."""
        eventually(lambda: ledger.landing(self.fs, self.layout, cut).landed_complete, seconds, sink)
        return ledger.landing(self.fs, self.layout, cut)

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
