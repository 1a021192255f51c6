"""Command sink: lands what is in Kafka on HDFS until it is told to end."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

import click

from infra.errors import MAY_PASS, ClickstreamError
from infra.settings import Settings

if TYPE_CHECKING:
    from rich.progress import Task

    from storage.sink.metrics import SinkMetrics


@click.command("sink")
@click.option(
    "--number", type=click.IntRange(1), default=1, help="Of several on one machine: name and port are its own."
)
def sink_command(number: int) -> dict[str, Any]:
    """Land what is in Kafka on HDFS, exactly once, until SIGTERM: which publishes what is open, then leaves."""
    import gc
    import signal
    import threading

    gc.set_threshold(100_000, 20, 50)  # each poll creates thousands of objects, none of them in a cycle
    from infra.web.serving import log_as_json
    from storage.hdfs import Hdfs
    from storage.sink.member import run
    from storage.sink.metrics import SinkMetrics

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
    """Prints the error and ends the process without waiting for its threads: one that writes to HDFS may never end."""
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
    """Shows a line of progress if stderr is a terminal."""
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
