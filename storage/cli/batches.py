"""Commands cut and report: ends a batch, and shows one in numbers."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import click

from infra.options import AS_JSON
from storage.cli.context import BATCH, find_cut, platform


@click.command("cut")
@click.option("--name", help="Name of the cut; the time in UTC by default. A name that exists is shown again.")
@AS_JSON
def cut_command(name: str | None, as_json: bool) -> dict[str, Any]:
    """End a batch now: at the end of each partition of the topic."""
    from infra.topics import end_offsets
    from storage.batches import cuts

    settings, fs, layout = platform()
    name = name or datetime.now(UTC).strftime("%Y-%m-%dT%H-%M-%SZ")
    taken = cuts.take(fs, layout, name, lambda: end_offsets(settings, layout.topic))
    facts: dict[str, Any] = json.loads(taken.to_json()) | {"offsets": taken.offsets}
    click.echo(json.dumps(facts) if as_json else f"batch {taken.number}: {taken.name}, {taken.offsets:,} offsets")
    return facts


@click.command("report")
@BATCH
@AS_JSON
def report_command(batch: str | None, as_json: bool) -> dict[str, Any]:
    """Show a batch in numbers: the ledger's, and those of the newest export."""
    from rich.console import Console
    from rich.table import Table

    from storage.batches import ledger, report

    settings, fs, layout = platform()
    facts = report.facts(fs, settings.hdfs.root, ledger.current(fs, layout, find_cut(fs, layout, batch)))
    if as_json:
        click.echo(json.dumps(facts))
        return facts
    table = Table("", "", box=None, show_header=False)
    for name, value in facts.items():
        rows = value.items() if isinstance(value, dict) else [("", value)]
        for part, number in rows:
            table.add_row(f"{name} {part}".strip(), "-" if number is None else str(number))
    Console().print(table)
    return facts
