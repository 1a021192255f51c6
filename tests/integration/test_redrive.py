"""A second chance for what is quarantined: landed once, by whatever number of tries."""

from __future__ import annotations

import json

from infra.settings import Settings
from storage.redrive import Redriven, redrive
from storage.schemas import Registry
from storage.source import SchemaTopic, append
from tests.integration.landing import Landing, landing
from tests.integration.sandbox import event, produce, publish_schema, running_sink
from tests.landing import NEWER, newer_event


def try_again(corner: Landing, dry_run: bool = False) -> Redriven:
    registry = Registry()
    topic = SchemaTopic(corner.settings, registry)
    topic.refresh()
    topic.close()
    return redrive(
        corner.fs, corner.layout, registry, lambda values: append(corner.settings, corner.layout.topic, values), dry_run
    )


def test_what_was_quarantined_for_its_schema_is_landed_once_it_can_be_read(cluster_settings: Settings) -> None:
    corner = landing(cluster_settings, schema_deadline_seconds=0.2)
    produce(corner.settings, 0, [event("a"), newer_event("b"), b"garbage", event("c")], key=b"v1")
    with running_sink(corner.settings) as sink:
        first = corner.landed(corner.cut("one"), sink)
        assert (first.total("landed"), first.total("quarantined")) == (2, 2)
        assert try_again(corner).redriven == 0
        publish_schema(corner.settings, NEWER)
        assert try_again(corner, dry_run=True).redriven == 1
        done = try_again(corner)
        assert (done.quarantined, done.redriven, done.unreadable.total()) == (2, 1, 1)
        again = try_again(corner)
        assert (again.before, again.redriven) == (1, 0)
        assert corner.landed(corner.cut("two"), sink).total("landed") == 1
    assert [row["event"]["message_id"] for row in corner.rows(corner.layout, 0)] == ["a", "c", "b"]
    assert json.loads(corner.fs.read(only(corner)))["offsets"] == [1]


def only(corner: Landing) -> str:
    folder = corner.layout.redriven(0)
    [name] = corner.fs.names(folder)
    return f"{folder}/{name}"
