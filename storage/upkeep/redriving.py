"""Redriving: appends quarantined records that can be read by now to their topic again.

    <root>/redriven/<topic>/p=03/<file>.json     the offsets of a quarantine file that were appended again

They are then landed, counted and curated with new records, and the ledgers of the past stay as they are. A crash before
the marker is written appends them twice; curation removes the duplicates by event id.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from ingest.errors import CodecError
from ingest.event import codec
from storage.formats.records import records
from storage.formats.schemas import SchemaRegistry
from storage.hdfs import Hdfs
from storage.layout import Layout, parse

Send = Callable[[Sequence[tuple[bytes | None, bytes]]], None]


@dataclass(slots=True)
class Redriven:
    """Counts of quarantined records: appended now, `before`, and `unreadable` by reason."""

    quarantined: int = 0
    before: int = 0
    redriven: int = 0
    unreadable: Counter[str] = field(default_factory=Counter)

    def facts(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


def redrive(fs: Hdfs, layout: Layout, schemas: SchemaRegistry, send: Send, dry_run: bool = False) -> Redriven:
    """Redrives all quarantine files of a topic; `send` returns when Kafka has acknowledged its records."""
    done = Redriven()
    for partition, path in _files(fs, layout):
        marker = f"{layout.redriven(partition)}/{path.rsplit('/', 1)[-1]}.json"
        known = _appended_before(fs, marker)
        chosen: list[tuple[int, bytes | None, bytes]] = []
        with suppress(FileNotFoundError):  # retention has deleted it since it was listed
            chosen += _readable(fs, path, schemas, known, done)
        if chosen and not dry_run:
            send([(key, value) for _, key, value in chosen])
            offsets = sorted(known | {offset for offset, _, _ in chosen})
            fs.write_atomically(marker, json.dumps({"offsets": offsets}).encode(), overwrite=True)
        done.redriven += len(chosen)
    return done


def _readable(
    fs: Hdfs, path: str, schemas: SchemaRegistry, known: set[int], done: Redriven
) -> Iterator[tuple[int, bytes | None, bytes]]:
    """(offset, key, value) of records that can be read by now and were not appended again before."""
    for _, offset, _, (key, value) in records(fs, path):
        done.quarantined += 1
        if offset in known:
            done.before += 1
            continue
        try:
            codec.decode(value or b"", schemas.known)
        except CodecError as error:
            done.unreadable[str(error).split(":")[0]] += 1
        else:
            yield offset, key, value or b""


def _files(fs: Hdfs, layout: Layout) -> Iterator[tuple[int, str]]:
    root = layout.quarantine(0).rsplit("/", 1)[0]
    for name in fs.names(root):
        for folder in fs.names(f"{root}/{name}"):
            for file in fs.names(f"{root}/{name}/{folder}"):
                if parse(file) is not None:
                    yield int(name.removeprefix("p=")), f"{root}/{name}/{folder}/{file}"


def _appended_before(fs: Hdfs, marker: str) -> set[int]:
    with suppress(FileNotFoundError):
        return set(json.loads(fs.read(marker))["offsets"])
    return set()
