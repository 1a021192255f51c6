"""Exports for those who don't run Spark: Parquet folders of one version, and the pointer to the version in force.

<root>/exports/recommendations/CURRENT                                      {"version": v}
<root>/exports/recommendations/v=<v>/{for_visitors,similar,popular,items}/  Parquet
<root>/exports/recommendations/v=<v>/report.json                            facts of the run that made it
"""

from __future__ import annotations

import json
from typing import Any

from storage.errors import StorageError
from storage.hdfs import Hdfs


def folder(root: str, version: str | None = None) -> str:
    """Folder of one version below `root` (settings.hdfs.root), or of all versions."""
    every = f"{root}/exports/recommendations"
    return f"{every}/v={version}" if version else every


def table(root: str, version: str, name: str) -> str:
    """Folder of for_visitors, similar, popular or items."""
    return f"{folder(root, version)}/{name}"


def report(root: str, version: str) -> str:
    """Path of the version's report.json."""
    return f"{folder(root, version)}/report.json"


def read_current(fs: Hdfs, root: str) -> str | None:
    """The version in force, None before the first. Raises StorageError when CURRENT is no pointer."""
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
    """Facts of the version in force and that `version`, None before the first."""
    version = read_current(fs, root)
    if version is None:
        return None
    facts: dict[str, Any] = json.loads(fs.read(report(root, version)))
    return {"version": version} | facts
