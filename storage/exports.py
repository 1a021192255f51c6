"""Exports for readers without Spark: Parquet folders of each version, and the pointer to the current one.

<root>/exports/recommendations/CURRENT                                      {"version": v}
<root>/exports/recommendations/v=<v>/{for_visitors,similar,popular,items}/  Parquet
<root>/exports/recommendations/v=<v>/report.json                            facts of the run that wrote it
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Collection, Mapping
from datetime import datetime
from itertools import count
from typing import Any

from ingest.event.event import to_millis
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


def unfinished(root: str) -> str:
    """A folder for a version that is being written, which no reader finds."""
    return f"{folder(root)}/_{uuid.uuid4().hex}"


def name_version(fs: Hdfs, root: str, written: str, facts: Mapping[str, Any]) -> str:
    """Writes report.json into the folder `written` and renames the folder to a new version, which is returned.

    The version is <model_version>, or with a number behind it if that is taken.
    """
    for attempt in count(1):
        version = facts["model_version"] + ("" if attempt == 1 else f"-{attempt}")
        if fs.exists(folder(root, version)):
            continue
        body = json.dumps({**facts, "version": version}, indent=1).encode()
        fs.write_atomically(f"{written}/report.json", body, overwrite=True)
        try:
            fs.rename(written, folder(root, version))
        except FileExistsError:
            continue  # taken meanwhile
        break
    return str(version)


def erase_visitors(fs: Hdfs, root: str, visitors: Collection[str]) -> int:
    """Deletes these visitors' rows from all versions; returns how many rows that were.

    The current version is first copied without them, as a new version, so that servers notice the change.
    """
    from storage.formats.parquet.erase import drop_rows  # pyarrow takes a while to import

    def drop(version: str) -> int:
        return drop_rows(fs, f"{version}/for_visitors", "visitor_id", visitors)

    current = read_current(fs, root)
    if current is not None:
        copy = unfinished(root)
        _copy(fs, folder(root, current), copy)
        if drop(copy):
            facts = json.loads(fs.read(report(root, current)))
            version = name_version(fs, root, copy, facts)
            if read_current(fs, root) == current:  # else a newer one was published meanwhile
                publish_current(fs, root, version)
        fs.delete(copy, recursive=True)
    return sum(drop(f"{folder(root)}/{name}") for name in fs.names(folder(root)) if name.startswith("v="))


def drop_old(fs: Hdfs, root: str, before: int, kept: Collection[str]) -> int:
    """Deletes versions of batches below `before`, but those `kept` and the current one; how many."""
    stay = {read_current(fs, root), *kept}
    versions = [name.removeprefix("v=") for name in fs.names(folder(root)) if name.startswith("v=")]
    old = [version for version in versions if version not in stay and _batch(fs, root, version) < before]
    return sum(fs.delete(folder(root, version), recursive=True) for version in old)


def _batch(fs: Hdfs, root: str, version: str) -> int:
    return int(json.loads(fs.read(report(root, version))).get("batch_number", 0))


def drop_unfinished(fs: Hdfs, root: str, before: datetime) -> int:
    """Deletes versions whose writers died, last modified before that moment; how many."""
    entries = fs.list(folder(root)) if fs.exists(folder(root)) else []
    dead = [entry for entry in entries if entry.name.startswith("_") and entry.modified < to_millis(before)]
    return sum(fs.delete(entry.path, recursive=True) for entry in dead)


def _copy(fs: Hdfs, source: str, target: str) -> None:
    """Copies all files of a version except its report."""
    for place in fs.list(source):
        for file in fs.list(place.path) if place.is_dir else ():
            fs.create(f"{target}/{place.name}/{file.name}", [fs.read(file.path)], create_parents=True)


def read_current(fs: Hdfs, root: str) -> str | None:
    """The current version, None before the first. Raises StorageError if CURRENT can't be parsed."""
    path = f"{folder(root)}/CURRENT"
    try:
        return str(json.loads(fs.read(path))["version"])
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise StorageError(path, f"is no pointer to a version: {error!r}") from error


def publish_current(fs: Hdfs, root: str, version: str) -> None:
    """Makes a complete version the current one, in one step."""
    fs.write_atomically(f"{folder(root)}/CURRENT", json.dumps({"version": version}).encode(), overwrite=True)


def read_report(fs: Hdfs, root: str) -> dict[str, Any] | None:
    """Facts of the current version, with its `version`; None before the first."""
    version = read_current(fs, root)
    if version is None:
        return None
    facts: dict[str, Any] = json.loads(fs.read(report(root, version)))
    return {"version": version} | facts
