"""`clickstream bench`: measurements beside a peer in the same run, never against a number from elsewhere."""

from __future__ import annotations

import json
from typing import Any

import click

from infra.options import AS_JSON
from infra.settings import Settings


@click.group()
def bench() -> None:
    """Measure beside a naive peer, in one run on this machine."""


@bench.command("collector")
@click.option("--seconds", type=click.FloatRange(0.2), default=2.0, show_default=True, help="Length of each round.")
@click.option("--rounds", type=click.IntRange(1), default=9, show_default=True, help="Medians are of these.")
@click.option("--connections", type=click.IntRange(1), default=32, show_default=True, help="Requests at once.")
@AS_JSON
def collector(seconds: float, rounds: int, connections: int, as_json: bool) -> dict[str, Any]:
    """The collector as `up` runs it, beside a Flask app that only waits for Kafka's ack. Needs a running Kafka."""
    from rich.console import Console

    from ingest.bench.collector import run

    console = Console(stderr=True)
    with console.status("starting both servers") as status:
        facts = run(Settings.from_env(), seconds, rounds, connections, status.update)
    if as_json:
        click.echo(json.dumps(facts))
    else:
        _print(facts)
    return facts


def _print(facts: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("", "server", "requests/s", "events/s", "p50 ms", "p99 ms", "CPU µs/event", box=None)
    for column in table.columns[2:]:
        column.justify = "right"
    for what, title in (("single", "single events"), ("batch", "batches of 100")):
        for server in ("naive", "collector"):
            seen = facts[what][server]
            numbers = [f"{seen[name]:,.0f}" for name in ("requests_per_second", "events_per_second")]
            numbers += [f"{seen[name]:,.1f}" for name in ("p50_ms", "p99_ms", "cpu_us_per_event")]
            table.add_row(title if server == "naive" else "", server, *numbers)
        ratio, p99 = f"{facts[what]['ratio']:.2f}", f"{facts[what]['p99_ratio']:.2f}"
        table.add_row("", "[bold]ratio", f"[bold]{ratio}", f"[bold]{ratio}", "", f"[bold]{p99}", "")
    Console().print(table)
    click.echo(
        f"{facts['accepted']:,} events accepted, {facts['stored']:,} in Kafka; {facts['workers']} workers with "
        f"{facts['threads']} threads each, {facts['connections']} connections"
    )
