"""A sink that dies by kill -9 before or after any step of claiming, writing and publishing: the next one goes on."""

from __future__ import annotations

import signal
from functools import cache
from typing import get_args

import pytest

from infra.settings import Settings
from ingest.event import codec
from storage.formats import FORMATS
from storage.formats.schemas import SchemaRegistry
from storage.sink import epochs
from storage.sink.publishing import publish
from storage.sink.rolling import Limits
from storage.sink.writer import PartitionWriter, Records
from tests.support.corners import produce
from tests.support.events import event
from tests.support.failing_sink import Fault, Verb, When
from tests.support.landing import Landing
from tests.support.proof import proved
from tests.support.sinks import Sent, corner, landed, sink_process

RECORDS, SEEDED, POISON = 4_500, 500, 1_000
FILE = r"/e=\d+/\w+/{}t"  # in the folder of an epoch; topics begin with a t
STEPS: dict[str, tuple[Verb, str, int]] = {
    "epoch-rename": ("rename", r"/new-\w+ -> ", 1),
    "fencing-move": ("rename", r" -> /.*/epochs/t\w+/p=00/fenced/", 1),
    "listing": ("list", r"/raw/t\w+/p=00$", 1),
    "create": ("create", FILE.format(""), 1),
    "write": ("write", FILE.format(""), 3),  # after the header and a block of 1 MiB
    "close": ("close", FILE.format(""), 1),
    "publish-rename": ("rename", r" -> /.*/raw/", 1),
    "commit": ("commit", r"^t\w+$", 1),
}
FURTHER: dict[str, tuple[Verb, str, int]] = {
    "topic-id": ("mkdirs", r"/epochs/t\w+/id=[\w-]+$", 1),
    "quarantine-create": ("create", FILE.format(r"q\+"), 1),
    "quarantine-rename": ("rename", r" -> /.*/quarantine/", 1),
    "hsync": ("hsync", FILE.format(""), 1),
    "second-publish-rename": ("rename", r" -> /.*/raw/", 2),
    "release": ("rename", r" -> /.*/epochs/t\w+/p=00/fenced/", 2),
}
CASES = [(step, when) for step in STEPS for when in get_args(When)] + [(step, "before") for step in FURTHER]


@cache
def values() -> tuple[list[bytes], list[str | None]]:
    """Events of some 500 bytes, and one record that is none; with their ids."""
    ids: list[str | None] = [f"{n}-{'x' * 300}" for n in range(RECORDS)]
    ids[POISON] = None
    return [b"{}" if id_ is None else event(id_) for id_ in ids], ids


def dead_owner(place: Landing) -> None:
    """Leaves the epoch, a published and an unpublished file of an owner who is no more."""
    epoch = epochs.claim_epoch(place.fs, place.layout, 0)
    registry = SchemaRegistry()
    registry.add(codec.SCHEMA)
    limits = Limits.of(place.settings.sink)
    writer = PartitionWriter(
        place.layout, 0, 0, format_=FORMATS["avro"], codec_="null", limits=limits, registry=registry
    )
    seeds = Records.of((n, 1, None, value) for n, value in enumerate(values()[0][:SEEDED]))
    writer.append(seeds, lambda _: "lost")
    writer.seal("released")
    publish(epoch, place.layout, writer.sealed.popleft())
    epoch.create("left behind", [b"x"])


@pytest.mark.parametrize(("step", "when"), CASES, ids=[f"{when}-{step}" for step, when in CASES])
def test_killed_at_any_step_the_next_sink_lands_everything_once(
    cluster_settings: Settings, step: str, when: When
) -> None:
    # A static member: who takes its name anew takes its partitions too, without waiting for the session's end.
    place = corner(cluster_settings, instance="one", codec="null", max_records=3_000)
    records, ids = values()
    produce(place.settings, 0, records)
    dead_owner(place)
    place.cut("first")  # so that the rest of what is there makes a second file
    verb, pattern, nth = (STEPS | FURTHER)[step]
    with sink_process(place.settings, Fault(verb, pattern, nth, when)) as victim:
        if step == "release":
            landed(place, "all", worker=victim)
            victim.signal(signal.SIGTERM)
        assert victim.ended() == -signal.SIGKILL, victim.tail()
    before, more = len(place.files(place.layout, 0)), [f"more {n}" for n in range(100)]
    produce(place.settings, 0, [event(id_) for id_ in more])
    with sink_process(place.settings) as successor:
        landed(place, "second", worker=successor)
        successor.stop()
    sent: Sent = {0: [*ids, *more]}
    print(f"\nkilled {when} {step}, with {before} files published: {proved(place, sent)}")
    assert place.fs.names(place.layout.epochs(0)) == ["fenced"]
