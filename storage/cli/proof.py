"""Commands ledger and audit: what became of each offset, and the proof of it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from infra.options import AS_JSON
from storage.cli.context import BATCH, find_cut, platform

if TYPE_CHECKING:
    from rich.table import Table

    from storage.audit.topic import Audit
    from storage.batches.ledger import BatchLedger

_COLUMNS = ("offsets", "landed", "quarantined", "explained", "lost", "missing", "files")
_PUBLISHED = ("curated", "duplicates", "invalid", "unpublished")
_WATCH_SECONDS = 2.0


@click.group("ledger", invoke_without_command=True)
@BATCH
@click.option("--all", "every", is_flag=True, help="All batches, one line each.")
@click.option("--watch", is_flag=True, help="Show it again every two seconds, until Ctrl-C.")
@AS_JSON
@click.pass_context
def ledger_command(context: click.Context, batch: str | None, every: bool, watch: bool, as_json: bool) -> None:
    """Show what became of each offset of a batch. Exit code 1 if a gate does not balance.

    A batch that has not been curated yet is judged by its landing gate alone.
    """
    if context.invoked_subcommand:
        return
    if every and batch:
        raise click.UsageError("--all and --batch exclude each other")
    if watch and as_json:
        raise click.UsageError("--watch and --json exclude each other")
    from storage.batches import history, ledger

    _, fs, layout = platform()

    def refresh() -> list[BatchLedger]:
        return history.refresh_all(fs, layout) if every else [ledger.refresh(fs, layout, find_cut(fs, layout, batch))]

    show = _show_all if every else _show_one
    if watch:
        watch_until_interrupted(lambda: show(refresh()))
        return
    found = refresh()
    if as_json:
        facts = [one.facts() for one in found]
        click.echo(json.dumps({"batches": facts} if every else facts[0]))
    else:
        _console().print(*show(found), sep="\n")
    if any(not one.landed_complete or (one.curated_yet and not one.published_balanced) for one in found):
        context.exit(1)


@ledger_command.command("rebuild")
@click.option("--fresh", is_flag=True, help="Read every header again, also of files that have not changed since.")
@AS_JSON
def rebuild_command(fresh: bool, as_json: bool) -> None:
    """Write the ledgers of all batches anew, from what lies on HDFS alone."""
    from storage.batches import history

    _, fs, layout = platform()
    with _progress("batches", as_json) as step:
        done = history.rebuild(fs, layout, lambda: step(1), fresh)
    if as_json:
        click.echo(json.dumps(done.facts()))
        return
    click.echo(
        f"{done.batches:,} batches: {done.written:,} ledgers written, {done.same:,} were the same or are not due"
    )
    if done.retired:
        click.echo(f"{done.retired:,} of them from what retention kept, since their raw files are gone")
    if done.incomplete:
        click.echo(f"{len(done.incomplete):,} have not landed completely: {', '.join(done.incomplete[:10])}")


@click.command("audit")
@click.option("--deep", is_flag=True, help="Read and decode every record, not only names and headers.")
@click.option("--fresh", is_flag=True, help="Read every header again, also of files that have not changed since.")
@click.option("--topic", help="The topic; that of the settings by default.")
@AS_JSON
@click.pass_context
def audit_command(context: click.Context, deep: bool, fresh: bool, topic: str | None, as_json: bool) -> None:
    """Prove that each offset of all history is on HDFS exactly once. Exit code 1, with the first violation, if not."""
    from storage.audit.topic import audit
    from storage.layout import Layout

    settings, fs, layout = platform()
    if topic:
        layout = Layout(settings.hdfs.root, topic)
    with _progress("files", as_json) as step:
        found = audit(fs, layout, deep, step, fresh)
    if as_json:
        click.echo(json.dumps(found.facts()))
    else:
        _show_audit(found)
    if found.uncached_reason:
        click.echo(f"the next audit reads these headers again: {found.uncached_reason}", err=True)
    if found.violations:
        context.exit(1)


def watch_until_interrupted(show: Callable[[], list[Any]], seconds: float = _WATCH_SECONDS) -> None:
    """Shows it again and again on the terminal; Ctrl-C ends it without a word."""
    from rich.console import Group
    from rich.live import Live

    with Live(console=_console(), auto_refresh=False) as live:
        try:
            while True:
                live.update(Group(*show()), refresh=True)
                time.sleep(seconds)
        except KeyboardInterrupt:
            pass


def _console() -> Any:
    from rich.console import Console

    return Console()


@contextmanager
def _progress(what: str, quiet: bool) -> Iterator[Callable[[int], None]]:
    """Counts on a terminal, on stderr; silent otherwise."""
    from rich.console import Console
    from rich.progress import Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.completed:,} {task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=quiet or not console.is_terminal, transient=True) as progress:
        task = progress.add_task(what, total=None)
        yield lambda count: progress.advance(task, count)


def _table(title: str, *names: str) -> Table:
    from rich.table import Table

    table = Table(title=title)
    for name in names:
        table.add_column(name, justify="right")
    return table


def _numbers(values: list[int | None]) -> list[str]:
    return ["-" if value is None else f"{value:,}" for value in values]


def _show_all(found: list[BatchLedger]) -> list[Any]:
    """A table of all batches, one line each."""
    table = _table(f"{len(found):,} batches", "number", "batch", *_COLUMNS, *_PUBLISHED)
    for one in found:
        sums: list[int | None] = [one.total(name) for name in _COLUMNS]
        later = [one.total(name) if one.curated_yet else None for name in _PUBLISHED]
        table.add_row(str(one.number), one.name, *_numbers(sums + later))
    landed, balanced = sum(one.landed_complete for one in found), sum(one.published_balanced for one in found)
    return [table, f"landing gate: {landed:,} of {len(found):,} balanced; publish gate: {balanced:,}"]


def _show_one(one_of: list[BatchLedger]) -> list[Any]:
    """A table of one batch, one line for each partition."""
    (found,) = one_of
    table = _table(f"batch {found.number}: {found.name}", "partition", *_COLUMNS, *_PUBLISHED)
    for row in found.partitions:
        table.add_row(str(row.partition), *_numbers([getattr(row, name) for name in (*_COLUMNS, *_PUBLISHED)]))
    later = [found.total(name) if found.curated_yet else None for name in _PUBLISHED]
    table.add_row("all", *_numbers([*(found.total(name) for name in _COLUMNS), *later]))
    landed = "balanced" if found.landed_complete else f"missing {found.missing}"
    verdict = "balanced" if found.published_balanced else "does not balance" if found.curated_yet else "not curated yet"
    return [table, f"landing gate: {landed}", f"publish gate: {verdict}"]


def _show_audit(found: Audit) -> None:
    columns = ("first", "end", "files", "landed", "quarantined", "explained", "lost", "remainders")
    table = _table(f"{found.topic}, {found.batches:,} batches", "partition", *columns)
    for partition, totals in sorted(found.partitions.items()):
        table.add_row(str(partition), *_numbers([totals.facts()[name] for name in columns]))
    _console().print(table)
    click.echo(f"{found.headers_read:,} headers read, the others have not changed since they were")
    if found.deep:
        click.echo(f"{found.events:,} events read, {found.distinct_ids:,} distinct ids")
    if not found.violations:
        click.echo("every offset is accounted for exactly once")
        return
    first = found.findings[0]
    click.echo(f"violation ({first.kind}): {first.text}")
    for file in first.files:
        click.echo(f"  {file}")
    if found.violations > 1:
        click.echo(f"and {found.violations - 1:,} more: {', '.join(f'{n} {k}' for k, n in found.kinds.items())}")
