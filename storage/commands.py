"""sink, cut, ledger, report, bench: from the stream to batches that are known to be complete."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from infra.settings import Settings
from storage.bench import commands as bench

if TYPE_CHECKING:
    from rich.progress import Task

    from storage.batches import Cut
    from storage.hdfs import Hdfs
    from storage.layout import Layout
    from storage.ledger import BatchLedger
    from storage.metrics import SinkMetrics

_AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print facts as JSON.")
_BATCH = click.option("--batch", metavar="NAME", help="The cut that ends the batch; the newest by default.")


@click.command()
@click.option(
    "--number", type=click.IntRange(1), default=1, help="Of several on one machine: name and port are its own."
)
def sink(number: int) -> dict[str, Any]:
    """Land what is in Kafka on HDFS, exactly once, until SIGTERM: which publishes what is open, then leaves."""
    import signal
    import threading

    from infra.serving import log_as_json
    from storage.hdfs import Hdfs
    from storage.metrics import SinkMetrics
    from storage.sink import run

    log_as_json()
    settings = Settings.from_env()
    own = settings.sink.process(number)
    settings = settings.model_copy(update={"sink": own})
    stop = threading.Event()
    for end in (signal.SIGTERM, signal.SIGINT):
        signal.signal(end, lambda *_: stop.set())
    metrics = SinkMetrics()
    metrics.serve(own.metrics_port)
    with _progress(metrics):
        run(settings, Hdfs(settings), metrics, stop)
    return {}


@contextmanager
def _progress(metrics: SinkMetrics) -> Iterator[None]:
    """One line on a terminal, nothing elsewhere."""
    from rich.console import Console
    from rich.progress import Progress, ProgressColumn, SpinnerColumn
    from rich.text import Text

    console = Console(stderr=True)
    if not console.is_terminal:
        yield
        return

    class Landed(ProgressColumn):
        def render(self, task: Task) -> Text:
            done, behind = metrics.landed()
            rate = done / task.elapsed if task.elapsed else 0.0
            return Text(f"{done:,} landed, {behind:,} to go, {rate:,.0f}/s")

    with Progress(SpinnerColumn(), Landed(), console=console, transient=True) as progress:
        progress.add_task("sink", total=None)
        yield


@click.command()
@click.option("--name", help="Name of the cut; the time in UTC by default. A name that exists is shown again.")
@_AS_JSON
def cut(name: str | None, as_json: bool) -> dict[str, Any]:
    """End a batch now: at the end of each partition of the topic."""
    from infra.topics import end_offsets
    from storage import batches

    settings, fs, layout = _platform()
    name = name or datetime.now(UTC).strftime("%Y-%m-%dT%H-%M-%SZ")
    taken = batches.take(fs, layout, name, lambda: end_offsets(settings, layout.topic))
    facts: dict[str, Any] = json.loads(taken.to_json()) | {"offsets": taken.offsets}
    click.echo(json.dumps(facts) if as_json else f"batch {taken.number}: {taken.name}, {taken.offsets:,} offsets")
    return facts


@click.command()
@_BATCH
@_AS_JSON
@click.pass_context
def ledger(context: click.Context, batch: str | None, as_json: bool) -> dict[str, Any]:
    """Show what became of each offset of a batch. Exit code 1 if a gate does not balance.

    A batch that has not been curated yet is judged by its landing gate alone.
    """
    from storage import ledger as ledgers

    _, fs, layout = _platform()
    found = ledgers.landing(fs, layout, _cut(fs, layout, batch))
    if found.landed_complete:
        ledgers.record_landing(fs, layout, found)
    facts = found.facts()
    if as_json:
        click.echo(json.dumps(facts))
    else:
        _show(found)
    if not found.landed_complete or (found.curated_yet and not found.published_balanced):
        context.exit(1)
    return facts


@click.command()
@_BATCH
@_AS_JSON
def report(batch: str | None, as_json: bool) -> dict[str, Any]:
    """Show a batch in numbers: the ledger's, and those of the newest export."""
    from rich.console import Console
    from rich.table import Table

    from storage import ledger as ledgers
    from storage import report as reports

    settings, fs, layout = _platform()
    facts = reports.facts(fs, settings.hdfs.root, ledgers.landing(fs, layout, _cut(fs, layout, batch)))
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


def _platform() -> tuple[Settings, Hdfs, Layout]:
    from storage.hdfs import Hdfs
    from storage.layout import Layout

    settings = Settings.from_env()
    return settings, Hdfs(settings), Layout(settings.hdfs.root, settings.kafka.topic)


def _cut(fs: Hdfs, layout: Layout, name: str | None) -> Cut:
    """The named cut, else the newest."""
    from storage import batches
    from storage.errors import BatchError

    found = batches.get(fs, layout, name) if name else batches.newest(fs, layout)
    if found is None:
        raise BatchError(f"{layout.topic} has no cut yet; `clickstream cut` takes one")
    return found


def _show(found: BatchLedger) -> None:
    from rich.console import Console
    from rich.table import Table

    columns = ("offsets", "landed", "quarantined", "explained", "lost", "missing", "files")
    published = ("curated", "duplicates", "invalid", "unpublished")
    table = Table(title=f"batch {found.number}: {found.name}")
    for name in ("partition", *columns, *published):
        table.add_column(name, justify="right")
    for row in found.partitions:
        values = [getattr(row, name) for name in (*columns, *published)]
        table.add_row(str(row.partition), *("-" if value is None else f"{value:,}" for value in values))
    sums = [f"{found.total(name):,}" for name in columns]
    later = [f"{found.total(name):,}" if found.curated_yet else "-" for name in published]
    table.add_row("all", *sums, *later)
    console = Console()
    console.print(table)
    console.print(f"landing gate: {'balanced' if found.landed_complete else f'missing {found.missing}'}")
    verdict = "balanced" if found.published_balanced else "does not balance" if found.curated_yet else "not curated yet"
    console.print(f"publish gate: {verdict}")


commands: list[click.Command] = [sink, cut, ledger, report, *bench.commands]
