"""Quarantined records that can be read by now get a second chance: they are appended to their topic again.

    <root>/redriven/<topic>/p=03/<file>.json     the offsets of a quarantine file that have been

So they are landed, counted and curated with what comes in now, and the ledgers of the past stay as they are. Whoever
dies between the two does it twice, and curation removes the second by its event id.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from ingest import codec
from ingest.errors import CodecError
from storage.hdfs import Hdfs
from storage.layout import Layout, parse
from storage.records import records
from storage.schemas import Registry

Send = Callable[[Sequence[tuple[bytes | None, bytes]]], None]


@dataclass(slots=True)
class Redriven:
    """How many quarantined records there are, and what became of them; `unreadable` counts by reason."""

    quarantined: int = 0
    before: int = 0
    redriven: int = 0
    unreadable: Counter[str] = field(default_factory=Counter)

    def facts(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


def redrive(fs: Hdfs, layout: Layout, registry: Registry, send: Send, dry_run: bool = False) -> Redriven:
    """Looks at all that is quarantined of a topic; `send` returns when Kafka has acknowledged its records."""
    done = Redriven()
    for partition, path in _files(fs, layout):
        marker = f"{layout.redriven(partition)}/{path.rsplit('/', 1)[-1]}.json"
        known = _known(fs, marker)
        chosen: list[tuple[int, bytes | None, bytes]] = []
        with suppress(FileNotFoundError):  # its retention ended since it was listed
            chosen += _readable(fs, path, registry, known, done)
        if chosen and not dry_run:
            send([(key, value) for _, key, value in chosen])
            offsets = sorted(known | {offset for offset, _, _ in chosen})
            fs.write_atomically(marker, json.dumps({"offsets": offsets}).encode(), overwrite=True)
        done.redriven += len(chosen)
    return done


def _readable(
    fs: Hdfs, path: str, registry: Registry, known: set[int], done: Redriven
) -> Iterator[tuple[int, bytes | None, bytes]]:
    """(offset, key, value) of what can be read by now and was not sent before."""
    for _, offset, _, (key, value) in records(fs, path):
        done.quarantined += 1
        if offset in known:
            done.before += 1
            continue
        try:
            codec.decode(value or b"", registry.known)
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


def _known(fs: Hdfs, marker: str) -> set[int]:
    with suppress(FileNotFoundError):
        return set(json.loads(fs.read(marker))["offsets"])
    return set()
