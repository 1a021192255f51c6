"""Context of the commands: the settings, their HDFS, and the batch that the user names."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from infra.settings import Settings

if TYPE_CHECKING:
    from storage.batches.cuts import Cut
    from storage.hdfs import Hdfs
    from storage.layout import Layout

BATCH = click.option("--batch", metavar="NAME", help="The cut that ends the batch; the newest by default.")


def platform() -> tuple[Settings, Hdfs, Layout]:
    """The settings, their HDFS, and the layout of their topic."""
    from storage.hdfs import Hdfs
    from storage.layout import Layout

    settings = Settings.from_env()
    return settings, Hdfs(settings), Layout(settings.hdfs.root, settings.kafka.topic)


def find_cut(fs: Hdfs, layout: Layout, name: str | None) -> Cut:
    """The named cut, else the newest."""
    from storage.batches import cuts
    from storage.errors import BatchError

    found = cuts.get(fs, layout, name) if name else cuts.newest(fs, layout)
    if found is None:
        raise BatchError(f"{layout.topic} has no cut yet; `clickstream cut` takes one")
    return found
