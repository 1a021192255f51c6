"""clickstream bench jobs: the jobs that everything rests on, at any size, beside DuckDB."""

from __future__ import annotations

import json
from typing import Any

import click

from infra.options import AS_JSON
from infra.settings import Settings
from ingest.bench.commands import bench
from processing.bench.options import needs


@bench.command("jobs")
@click.option(
    "--events",
    "sizes",
    type=click.IntRange(10_000),
    multiple=True,
    default=(2_000_000,),
    show_default=True,
    help="How many; given more than once, the rates are compared.",
)
@click.option(
    "--old-sessions",
    type=click.IntRange(0),
    default=0,
    help="Also build_sessions of a few events, beside none and beside so many old sessions.",
)
@click.option("--memory", default="3g", show_default=True, help="The heap of Spark's driver.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the synthetic events.")
@AS_JSON
def jobs(sizes: tuple[int, ...], old_sessions: int, memory: str, seed: int, as_json: bool) -> dict[str, Any]:
    """Curate, sessions and features on synthetic events that lie on HDFS as the sink leaves them.

    Each job is a spark-submit with the settings' master, measured from its start; what it counts must be what was
    landed. Then the same sessions are made from the same Parquet files by Spark and by DuckDB. Needs a running HDFS
    (`clickstream up namenode datanode`), which the bench leaves as it was.
    """
    from rich.console import Console

    try:
        from processing.bench.jobs.measurement import run
    except ImportError as error:
        raise needs("jobs") from error
    facts = run(Settings.from_env(), sizes, old_sessions, memory, seed, Console(stderr=True).log)
    if as_json:
        click.echo(json.dumps(facts))
    else:
        _print(facts)
    return facts


def _print(facts: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    costs = Table("events", "job", "seconds", "CPU s", "peak GB", "events/s", box=None)
    peers = Table("events", "sessions", "by", "seconds", "events/s", box=None)
    for result in facts["results"]:
        events = result["events"]
        for name, job in result["jobs"].items():
            numbers = f"{job['seconds']:.1f}", f"{job['cpu_seconds']:.1f}", f"{job['peak_bytes'] / 1e9:.2f}"
            costs.add_row(f"{events:,}", name, *numbers, f"{events / job['seconds']:,.0f}")
        peak = f"{result['peak_bytes'] / 1e9:.2f}"
        costs.add_row(f"{events:,}", "together", "", "", peak, _rate(result["events_per_second"]))
        costs.add_row(f"{events:,}", "after the start", "", "", "", _rate(result["events_per_second_after_start"]))
        for name, peer in result["sessions"].items():
            rate = f"{events / peer['seconds']:,.0f}"
            peers.add_row(f"{events:,}", f"{peer['sessions']:,}", name, f"{peer['seconds']:.1f}", rate)
    console = Console()
    console.print(costs)
    console.print(peers)
    console.print(f"the start of the three jobs, as of a thousand events: {facts['start_seconds']:.0f} s")
    if old := facts["old_sessions"]:
        beside = f"{old['none']:.1f} s beside no session, {old['old']:.1f} s beside {old['sessions']:,} old ones"
        console.print(f"build_sessions of {old['events']} events: {beside}: {old['old'] / old['none']:.2f} times")
    if len(facts["results"]) > 1:
        ratios = [_number(facts[f"rate_of_last_to_first{after}"]) for after in ("", "_after_start")]
        console.print(f"rate of the last beside the first: {ratios[0]}, and {ratios[1]} after the start")


def _rate(rate: float | None) -> str:
    return "" if rate is None else f"{rate:,.0f}"


def _number(ratio: float | None) -> str:
    return "unknown" if ratio is None else f"{ratio:.2f}"
