"""The exports on HDFS as an ExportReader; storage/exports.py defines their paths."""

from __future__ import annotations

import json

import pyarrow.parquet as pq

from infra.settings import Settings
from storage import exports
from storage.hdfs import Hdfs
from webapp.snapshot import COLUMNS, Export


class HdfsExports:
    """Reads with a client of its own; connects at the first call."""

    def __init__(self, settings: Settings) -> None:
        self._hdfs = Hdfs(settings)
        self._root = settings.hdfs.root

    def current_version(self) -> str | None:
        """The version that CURRENT names; None before the first export."""
        return exports.read_current(self._hdfs, self._root)

    def load(self, version: str) -> Export:
        """All tables and the report of a version."""
        files = self._hdfs.arrow_filesystem()
        tables = {
            name: pq.read_table(exports.table(self._root, version, name), filesystem=files, partitioning=None)
            for name in COLUMNS
        }
        return Export(tables, json.loads(self._hdfs.read(exports.report(self._root, version))))
