"""Lists landed files and positions: from names only, no file is opened."""

from __future__ import annotations

import re
from collections.abc import Iterator

from storage.hdfs import Hdfs
from storage.layout import Layout, parse, visible

_TREES = ("raw", "quarantine")
_PARTITION = re.compile(r"^p=(\d+)$")


def partitions(fs: Hdfs, root: str) -> list[int]:
    """Numbers of the partitions in a topic's folder."""
    return sorted(int(match[1]) for name in fs.names(root) if (match := _PARTITION.match(name)))


def position(fs: Hdfs, layout: Layout, partition: int) -> int:
    """The first offset after the visible files: 0 for a new partition. Only the owner may rely on it."""
    root = layout.raw(partition)
    for bucket in reversed(fs.names(root)):
        ranges = visible(fs.names(f"{root}/{bucket}"))
        if ranges:  # a crash between mkdirs and rename leaves an empty bucket
            return max(r.last for r in ranges) + 1
    return 0


def all_paths(fs: Hdfs, root: str) -> Iterator[str]:
    """Paths of all raw and quarantine files of all topics."""
    for tree in _TREES:
        for topic in fs.names(f"{root}/{tree}"):
            for partition in fs.names(f"{root}/{tree}/{topic}"):
                for bucket in fs.names(f"{root}/{tree}/{topic}/{partition}"):
                    folder = f"{root}/{tree}/{topic}/{partition}/{bucket}"
                    yield from (f"{folder}/{name}" for name in fs.names(folder) if parse(name) is not None)
