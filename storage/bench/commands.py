"""Commands bench sink and bench history: how fast records land, and what the ledger of a long history costs."""

from __future__ import annotations

import json
import sys
from typing import Any

import click

from infra.options import AS_JSON
from infra.settings import Settings
from ingest.bench.commands import bench


@bench.command("sink")
@click.option("--events", type=click.IntRange(1), default=2_000_000, show_default=True, help="Of some 480 bytes.")
@click.option("--partitions", type=click.IntRange(1), default=4, show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=2, show_default=True, help="Medians are of these.")
@click.option("--peer", type=click.Choice(["spark", "none"]), default="spark", show_default=True)
@AS_JSON
def sink(events: int, partitions: int, rounds: int, peer: str, as_json: bool) -> dict[str, Any]:
    """The sink from Kafka to HDFS, beside plain consumption and Spark. Needs a running Kafka and HDFS."""
    from rich.console import Console

    from storage.bench.sink import run

    console = Console(stderr=True)
    with console.status("") as status:
        facts = run(Settings.from_env(), events, partitions, rounds, peer == "spark", status.update)
    if as_json:
        click.echo(json.dumps(facts))
    else:
        _print(facts)
    return facts


@bench.command("history")
@click.option("--batches", type=click.IntRange(1), default=8_760, show_default=True, help="Hours of a year.")
@click.option("--partitions", type=click.IntRange(1), default=16, show_default=True, help="With a file a batch.")
@AS_JSON
def history(batches: int, partitions: int, as_json: bool) -> dict[str, Any]:
    """Ledger, audit, rebuild and a sink's start on so many small files, which it makes. Needs Kafka and HDFS."""
    from rich.console import Console

    from storage.bench.history import run

    console = Console(stderr=True)
    with console.status("") as status:
        facts = run(Settings.from_env(), batches, partitions, status.update)
    if as_json:
        click.echo(json.dumps(facts))
    else:
        _print_history(facts)
    return facts


def _print_history(facts: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("", "s", "CPU s", "RAM MB", box=None)
    for column in table.columns[1:]:
        column.justify = "right"
    for name, seen in facts["results"].items():
        table.add_row(name, f"{seen['seconds']:.1f}", f"{seen['cpu_seconds']:.1f}", str(seen["peak_mb"]))
    Console().print(table)
    click.echo(
        f"{facts['files']:,} files of {facts['batches']:,} batches in {facts['partitions']} partitions, on "
        f"{facts['cores']} cores; CPU: the command's own, not that of HDFS"
    )


def _print(facts: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    headings = ("events/s", "/limit", "/Spark", "CPU s", "/Spark", "RAM MB", "files", "MB", "load")
    table = Table("", *headings, box=None)
    for column in table.columns:
        column.justify, column.no_wrap = "right", True
    for name, seen in facts["results"].items():
        table.add_row(
            _title(name),
            f"{seen['events_per_second']:,}",
            _number(seen["to_limit"], ".2f"),
            _number(seen["to_spark"], ".1f"),
            f"{seen['cpu_seconds']:.1f}",
            _number(seen["cpu_to_spark"], ".2f"),
            str(seen["peak_mb"]),
            _number(seen["files"], ","),
            _number(seen["mb"], ","),
            ", ".join(f"{turn['load_average']:.1f}" for turn in seen["rounds"]),
        )
    console = Console(width=None if sys.stdout.isatty() else 120)
    console.print(table)
    for name, reason in facts["skipped"].items():
        console.print(f"{_title(name)}: {reason}", style="yellow", highlight=False)
    click.echo(
        f"{facts['events']:,} events in {facts['partitions']} partitions, medians of {facts['rounds']} rounds,\nwith "
        f"the start of the processes, on {facts['cores']} cores; load: the machine's average before each. Each "
        "output holds exactly the ids that were produced. Spark Avro: raw values; Spark in columns: from JSON."
    )


def _title(name: str) -> str:
    """A contestant's title: "avro_two_processes" -> "Avro, 2 processes"."""
    if name == "limit":
        return "consume only"
    return " ".join(word.capitalize() for word in name.removesuffix("_two_processes").split("_")) + (
        ", 2 processes" if name.endswith("_two_processes") else ""
    )


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


commands: list[click.Command] = [bench]
