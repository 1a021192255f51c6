"""sink, cut, report: from the stream to batches that are known to be complete; proof stands in proof_commands.py."""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NoReturn

import click

from infra.errors import MAY_PASS, ClickstreamError
from infra.settings import Settings
from storage.bench import commands as bench
from storage.erasure_commands import erasures
from storage.proof_commands import AS_JSON, BATCH, audit, find_cut, ledger, platform
from storage.upkeep_commands import compact, redrive

if TYPE_CHECKING:
    from rich.progress import Task

    from storage.metrics import SinkMetrics


@click.command()
@click.option(
    "--number", type=click.IntRange(1), default=1, help="Of several on one machine: name and port are its own."
)
def sink(number: int) -> dict[str, Any]:
    """Land what is in Kafka on HDFS, exactly once, until SIGTERM: which publishes what is open, then leaves."""
    import gc
    import signal
    import threading

    gc.set_threshold(100_000, 20, 50)  # each poll brings thousands of objects, and none of them in a cycle
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
        try:
            run(settings, Hdfs(settings), metrics, stop)
        except Exception as error:
            end_at_once(error)
    return {}


def end_at_once(error: Exception) -> NoReturn:
    """Says why and ends the process: an interpreter that exits waits for its threads, and one that writes to HDFS may
    never end."""
    code = 1
    if isinstance(error, ClickstreamError):
        click.echo(f"clickstream: {error}", err=True)
        code = MAY_PASS if error.may_pass else 2
    else:
        traceback.print_exception(error)
    sys.stderr.flush()
    os._exit(code)


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
@AS_JSON
def cut(name: str | None, as_json: bool) -> dict[str, Any]:
    """End a batch now: at the end of each partition of the topic."""
    from infra.topics import end_offsets
    from storage import batches

    settings, fs, layout = platform()
    name = name or datetime.now(UTC).strftime("%Y-%m-%dT%H-%M-%SZ")
    taken = batches.take(fs, layout, name, lambda: end_offsets(settings, layout.topic))
    facts: dict[str, Any] = json.loads(taken.to_json()) | {"offsets": taken.offsets}
    click.echo(json.dumps(facts) if as_json else f"batch {taken.number}: {taken.name}, {taken.offsets:,} offsets")
    return facts


@click.command()
@BATCH
@AS_JSON
def report(batch: str | None, as_json: bool) -> dict[str, Any]:
    """Show a batch in numbers: the ledger's, and those of the newest export."""
    from rich.console import Console
    from rich.table import Table

    from storage import ledger as ledgers
    from storage import report as reports

    settings, fs, layout = platform()
    facts = reports.facts(fs, settings.hdfs.root, ledgers.landing(fs, layout, find_cut(fs, layout, batch)))
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


commands: list[click.Command] = [sink, cut, ledger, report, audit, compact, redrive, erasures, *bench.commands]
