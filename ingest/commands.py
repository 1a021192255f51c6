"""The commands collector, replay, simulate, tail and bench. Callbacks are thin; heavy imports stay inside."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from infra.options import AS_JSON
from infra.settings import Settings
from ingest.bench.commands import bench
from ingest.rejects.cli import rejected

if TYPE_CHECKING:
    from ingest.tools.replay import LineCounts, LineFormat


@click.command()
def collector() -> None:
    """Run the HTTP collector in the foreground, until SIGTERM."""
    from infra.web.serving import serve, shared_metrics

    settings = Settings.from_env()
    own = settings.collector
    with shared_metrics(settings.home):
        serve(
            "collector",
            "ingest.http.wsgi:application",
            own.host,
            own.port,
            own.threads,
            own.workers,
            drain_seconds=own.drain_seconds,
            tls=own.tls,
        )


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path), required=False)
@click.option("--format", "format_", type=click.Choice(["access-log", "jsonl"]), help="Guessed when not given.")
@click.option("--batch-size", type=click.IntRange(1, 10_000), default=500, show_default=True, help="Lines a request.")
@AS_JSON
def replay(file: Path | None, format_: LineFormat | None, batch_size: int, as_json: bool = False) -> dict[str, Any]:
    """Send FILE (plain or .gz; default: the bundled access log) to the collector, and account for every line."""
    from ingest.tools import replay as source

    file = file or source.bundled_log()
    format_ = format_ or source.guess_format(file)
    with (
        source.CollectorClient(Settings.from_env()) as client,
        source.open_lines(file) as (lines, raw),
        _progress(file.name, file.stat().st_size) as advance,
    ):
        outcome = source.replay(
            client, lines, file.name, format_, batch_size=batch_size, progress=lambda _: advance(raw.tell())
        )
    return _report(outcome.facts(), outcome, as_json)


@click.command()
@click.option("--visitors", type=click.IntRange(1, 10_000_000), required=True, help="How many shoppers.")
@click.option("--seed", type=int, required=True, help="The same seed gives the same events.")
@click.option("--days", type=click.IntRange(1, 3650), default=14, show_default=True, help="Days they shop in.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Write JSON lines instead of sending.")
@AS_JSON
def simulate(visitors: int, seed: int, days: int, out: Path | None, as_json: bool = False) -> dict[str, Any]:
    """Make synthetic shoppers with planted tastes, and send what they do to the collector."""
    from ingest.tools import replay as sender
    from ingest.tools.simulate import World, events

    world = World(visitors, seed, days)
    lines = (json.dumps(event, separators=(",", ":")).encode() for event in events(world))
    if out is not None:
        facts = {"events": _write_lines(out, lines), "run": world.run, "out": str(out)}
        click.echo(json.dumps(facts) if as_json else f"{facts['events']} events in {out}")
        return facts
    with sender.CollectorClient(Settings.from_env()) as client, _progress(world.run, None) as advance:
        outcome = sender.replay(
            client, lines, world.run, "jsonl", batch_size=1000, progress=lambda so_far: advance(so_far.lines)
        )
    return _report({"run": world.run} | outcome.facts(), outcome, as_json)


@click.command()
@click.argument("topic", required=False)
@click.option("--from-beginning", is_flag=True, help="Start with the oldest record, not with what comes next.")
@click.option("--max", "limit", type=click.IntRange(1), help="Stop after this many records.")
@click.option("--no-follow", is_flag=True, help="Stop at the end as it is now.")
@AS_JSON
def tail(topic: str | None, from_beginning: bool, limit: int | None, no_follow: bool, as_json: bool) -> dict[str, Any]:
    """Decode and print what passes through TOPIC (default: the events), one record a line, until Ctrl-C."""
    from ingest.tools.tail import tail as read

    settings = Settings.from_env()
    topic = topic or settings.kafka.topic
    printed = 0
    try:
        for seen in read(settings, topic, from_beginning=from_beginning, follow=not no_follow):
            click.echo(json.dumps(seen.as_dict(), ensure_ascii=False) if as_json else _line(seen.as_dict()))
            printed += 1
            if printed == limit:
                break
    except KeyboardInterrupt:
        pass  # the way to end it
    return {"topic": topic, "printed": printed}


def _write_lines(out: Path, lines: Iterator[bytes]) -> int:
    count = 0
    with out.open("wb") as file:
        for line in lines:
            file.write(line + b"\n")
            count += 1
    return count


@contextmanager
def _progress(name: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """A progress bar on stderr; the yielded function sets its position."""
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(name, total=total)
        yield lambda position: progress.update(task, completed=position)


def _report(facts: dict[str, Any], outcome: LineCounts, as_json: bool) -> dict[str, Any]:
    """Prints and returns the facts of a replay."""
    from rich.console import Console
    from rich.table import Table

    if as_json:
        click.echo(json.dumps(facts))
        return facts
    table = Table("outcome", "reason", "lines", box=None)
    table.columns[2].justify = "right"
    table.add_row("accepted", "", str(outcome.accepted))
    for name, reasons in (("filtered", outcome.filtered), ("rejected", outcome.rejected)):
        for reason, count in reasons.most_common():
            table.add_row(name, reason, str(count))
    table.add_row("[bold]sum", "", str(outcome.lines))
    Console(stderr=True).print(table)
    return facts


def _line(seen: dict[str, Any]) -> str:
    """A record as one line: for an event type, time, key and item, else its JSON."""
    value = seen["value"]
    where = f"{seen['partition']}:{seen['offset']}"
    if "event_type" in value:
        told = f"{value['event_type']} {value['occurred_at']} {seen['key']} {value['item_id'] or value['page']['path']}"
    else:
        told = json.dumps(value, ensure_ascii=False)
    return f"{where} {told}" + (f" ! {seen['problem']}" if "problem" in seen else "")


commands: list[click.Command] = [collector, replay, simulate, tail, rejected, bench]
