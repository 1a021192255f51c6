"""Exports for those who don't run Spark: Parquet folders of one version, and the pointer to the version in force.

<root>/exports/recommendations/CURRENT                                      {"version": v}
<root>/exports/recommendations/v=<v>/{for_visitors,similar,popular,items}/  Parquet
<root>/exports/recommendations/v=<v>/report.json                            facts of the run that made it
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Collection, Mapping
from itertools import count
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


def unfinished(root: str) -> str:
    """A folder for a version that is being written: no reader finds it."""
    return f"{folder(root)}/_{uuid.uuid4().hex}"


def name_version(fs: Hdfs, root: str, written: str, facts: Mapping[str, Any]) -> str:
    """Gives the folder `written` its report.json and the name of a version of its own: <model_version>, or with a
    number behind. Returns the version."""
    for attempt in count(1):
        version = facts["model_version"] + ("" if attempt == 1 else f"-{attempt}")
        if fs.exists(folder(root, version)):
            continue
        body = json.dumps({**facts, "version": version}, indent=1).encode()
        fs.write_atomically(f"{written}/report.json", body, overwrite=True)
        try:
            fs.rename(written, folder(root, version))
        except FileExistsError:
            continue  # taken between the question and the rename
        break
    return str(version)


def forget(fs: Hdfs, root: str, visitors: Collection[str]) -> int:
    """Takes these visitors' rows out of all versions, and says how many they were.

    What is in force is first copied without them, under a version of its own: so who serves it learns of the change.
    """
    from storage.parquet_erase import drop_rows  # pyarrow takes a while to import

    def drop(version: str) -> int:
        return drop_rows(fs, f"{version}/for_visitors", "visitor_id", visitors)

    current = read_current(fs, root)
    if current is not None:
        copy = unfinished(root)
        _copy(fs, folder(root, current), copy)
        if drop(copy):
            facts = json.loads(fs.read(report(root, current)))
            version = name_version(fs, root, copy, facts)
            if read_current(fs, root) == current:  # or what came meanwhile would be taken back
                publish_current(fs, root, version)
        fs.delete(copy, recursive=True)
    return sum(drop(f"{folder(root)}/{name}") for name in fs.names(folder(root)) if name.startswith("v="))


def _copy(fs: Hdfs, source: str, target: str) -> None:
    """All files of a version but its report."""
    for place in fs.list(source):
        for file in fs.list(place.path) if place.is_dir else ():
            fs.create(f"{target}/{place.name}/{file.name}", [fs.read(file.path)], create_parents=True)


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
