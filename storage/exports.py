"""Exports for those who don't run Spark: Parquet folders of one version, and the pointer to the version in force.

    <root>/exports/recommendations/CURRENT                                      {"version": v}
    <root>/exports/recommendations/v=<v>/{for_visitors,similar,popular,items}/  Parquet
    <root>/exports/recommendations/v=<v>/report.json                            facts of the run that made it
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from storage.errors import StorageError
from storage.hdfs import Hdfs


@dataclass(frozen=True, slots=True)
class Export:
    """Paths of one version below `root` (settings.hdfs.root)."""

    root: str
    version: str

    @property
    def path(self) -> str:
        return f"{folder(self.root)}/v={self.version}"

    def table(self, name: str) -> str:
        """Folder of for_visitors, similar, popular or items."""
        return f"{self.path}/{name}"

    @property
    def report(self) -> str:
        return f"{self.path}/report.json"


def folder(root: str) -> str:
    return f"{root}/exports/recommendations"


def current(fs: Hdfs, root: str) -> str | None:
    """The version in force, None before the first."""
    path = f"{folder(root)}/CURRENT"
    try:
        return str(json.loads(fs.read(path))["version"])
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise StorageError(path, f"is no pointer to a version: {error!r}") from error


def publish_current(fs: Hdfs, root: str, version: str) -> None:
    """Puts a complete version in force, in one step."""
    fs.write_atomically(f"{folder(root)}/CURRENT", json.dumps({"version": version}).encode(), overwrite=True)


def read_report(fs: Hdfs, root: str) -> dict[str, Any] | None:
    """Facts of the version in force, None before the first."""
    version = current(fs, root)
    if version is None:
        return None
    facts: dict[str, Any] = json.loads(fs.read(Export(root, version).report))
    return {"version": version} | facts
