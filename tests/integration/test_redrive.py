"""A second chance for what is quarantined: landed once, by whatever number of tries."""

from __future__ import annotations

import json

from infra.settings import Settings
from storage.formats.schemas import SchemaRegistry
from storage.sink.schema_topic import SchemaTopic, append
from storage.upkeep.redriving import Redriven, redrive
from tests.support.corners import produce, publish_schema
from tests.support.events import event
from tests.support.landing import NEWER, Landing, landing, newer_event
from tests.support.servers import running_sink


def try_again(corner: Landing, dry_run: bool = False) -> Redriven:
    registry = SchemaRegistry()
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
