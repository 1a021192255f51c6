"""Topics and a folder on the settings' servers for one run of a bench, deleted afterwards."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from infra.settings import Settings
from storage.hdfs import Hdfs


def own_settings(settings: Settings, home: Path, partitions: int) -> Settings:
    """Settings for the same servers with a home, topics and a folder of this run's own."""
    name = f"bench-{time.time_ns()}"
    kafka = settings.kafka.model_copy(update={"bootstrap_servers": settings.kafka.address, "partitions": partitions})
    hdfs = settings.hdfs.model_copy(update={"root": f"{settings.hdfs.root}/{name}"})
    return with_topic(settings.model_copy(update={"home": home, "kafka": kafka, "hdfs": hdfs}), name)


def with_topic(settings: Settings, topic: str) -> Settings:
    """The same settings with another topic."""
    return settings.model_copy(update={"kafka": settings.kafka.model_copy(update={"topic": topic})})


@contextmanager
def folder_of(settings: Settings) -> Iterator[None]:
    """Deletes the run's folder afterwards."""
    try:
        yield
    finally:
        Hdfs(settings).delete(settings.hdfs.root, recursive=True)
