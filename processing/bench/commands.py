"""The commands of all benches of processing: each room adds its own to `clickstream bench`."""

from __future__ import annotations

import click

import processing.bench.clicks.commands
import processing.bench.jobs.commands
import processing.bench.recommenders.commands  # noqa: F401
from ingest.bench.commands import bench

commands: list[click.Command] = [bench]
