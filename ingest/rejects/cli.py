"""`clickstream rejected list | show | fix | reinject`. Callbacks are thin."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from infra.errors import ServiceError
from infra.options import AS_JSON
from infra.settings import Settings

if TYPE_CHECKING:
    from ingest.rejects.reinject import Account
    from ingest.rejects.stored import Edit, Selection, StoredReject

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


class _Since(click.ParamType[int]):
    """30m, 2h, 7d, or a time (RFC 3339); ms since 1970."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        from ingest.event.times import parse_time

        ago = re.fullmatch(r"(\d{1,6})([smhd])", value)
        if ago:
            return time.time_ns() // 1_000_000 - int(ago[1]) * _UNITS[ago[2]] * 1000
        try:
            return parse_time(value)
        except ValueError as error:
            self.fail(f"{value} {error}; or 30m, 2h, 7d", param, ctx)


class _Edit(click.ParamType["Edit"]):
    name = "field=value"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Edit:
        from ingest.rejects.stored import Edit

        try:
            return Edit.parse(value)
        except ValueError as error:
            self.fail(f"{value} {error}", param, ctx)


def _selecting(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that choose records."""
    for option in (
        click.option("--since", type=_Since(), help="Only what came since: 30m, 2h, 7d, or a time."),
        click.option("--reason", help='Only of this reason, or a part of "field: reason".'),
        click.option("--field", help="Only of this field."),
        click.option("--key", help="Only of the write key of this name."),
        click.option("--protocol", help="Only what came by this protocol."),
    ):
        command = option(command)
    return command


def _sending(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of commands that send again."""
    for option in (
        click.argument("ids", nargs=-1),
        click.option("--as-key", help="Send under the write key of this name, as for what came with an unknown key."),
        click.option("--dry-run", is_flag=True, help="Send nothing; say what would happen."),
        AS_JSON,
    ):
        command = option(command)
    return _selecting(command)


@click.group()
def rejected() -> None:
    """See what the collector refused or kept aside, and send it again."""


@rejected.command("list")
@_selecting
@click.option("--samples", type=click.IntRange(0, 1000), default=5, show_default=True, help="Show the newest records.")
@AS_JSON
def list_(samples: int, as_json: bool, **chosen: Any) -> dict[str, Any]:
    """Count refused messages by reason, field and write key, and show the newest."""
    counts: Counter[tuple[str, str, str, str]] = Counter()
    newest: list[StoredReject] = []
    for stored in _read(Settings.from_env(), _selection(chosen)):
        counts[stored.field, stored.reason, stored.write_key, stored.protocol] += 1
        newest = [stored, *newest][:samples]
    names = ("field", "reason", "write_key", "protocol")
    facts = {
        "records": counts.total(),
        "reasons": [dict(zip(names, group, strict=True)) | {"records": n} for group, n in counts.most_common()],
        "newest": [_document(stored) for stored in newest],
    }
    if as_json:
        click.echo(json.dumps(facts, ensure_ascii=False))
    else:
        _print_list(facts)
    return facts


@rejected.command()
@click.argument("record_id", metavar="ID")
def show(record_id: str) -> dict[str, Any]:
    """Print one record whole, as JSON."""
    from ingest.rejects.stored import Selection

    found = next(_read(Settings.from_env(), Selection(ids=(record_id,))), None)
    if found is None:
        raise ServiceError("rejected", f"there is no record {record_id} (any more)")
    facts = _document(found)
    click.echo(json.dumps(facts, ensure_ascii=False, indent=2))
    return facts


@rejected.command()
@_sending
@click.option("--map", "edits", type=_Edit(), multiple=True, help="Mend first: field=value, field=@other, field=")
def reinject(edits: Sequence[Edit], **options: Any) -> dict[str, Any]:
    """Send records (IDS, or all that the options choose) to the collector again.

    However often it is done, an event is stored once: it keeps its id, or gets one that follows from its record.
    """
    return _again(edits, **options)


@rejected.command()
@_sending
@click.option(
    "--map", "edits", type=_Edit(), multiple=True, required=True, help="field=value, field=@other (moves), field="
)
def fix(edits: Sequence[Edit], **options: Any) -> dict[str, Any]:
    """Mend records by --map, and send them again.

    A value is JSON, or text where it is none: --map price=3 --map properties.color=red --map occurred_at=@timestamp.
    """
    return _again(edits, **options)


def _again(
    edits: Sequence[Edit], ids: tuple[str, ...], as_key: str | None, dry_run: bool, as_json: bool, **chosen: Any
) -> dict[str, Any]:
    from ingest.rejects.reinject import read
    from ingest.rejects.reinject import reinject as send
    from ingest.tools.replay import CollectorClient

    settings = Settings.from_env()
    records = read(settings, _selection(chosen, ids))
    if dry_run:
        account = send(None, settings, records, edits, as_key)
    else:
        with CollectorClient(settings) as client:
            client.check()
            account = _with_progress(lambda progress: send(client, settings, records, edits, as_key, progress))
    facts = account.facts() | {"dry_run": dry_run}
    if as_json:
        click.echo(json.dumps(facts, ensure_ascii=False))
    else:
        _print_account(facts)
    return facts


def _read(settings: Settings, selection: Selection) -> Any:
    from ingest.rejects.reinject import read

    return read(settings, selection)


def _selection(chosen: dict[str, Any], ids: tuple[str, ...] = ()) -> Selection:
    from ingest.rejects.stored import Selection

    return Selection(**chosen, ids=ids)


def _document(stored: StoredReject) -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(stored)


def _with_progress(work: Callable[[Callable[[Account], None]], Account]) -> Account:
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("reinject", total=None)
        return work(lambda account: progress.update(task, completed=account.outcomes.total()))


def _print_list(facts: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console()
    table = Table("field", "reason", "key", "protocol", "records", box=None)
    table.columns[4].justify = "right"
    for row in facts["reasons"]:
        table.add_row(*(escape(str(row[name])) for name in ("field", "reason", "write_key", "protocol", "records")))
    table.add_row("[bold]sum", "", "", "", str(facts["records"]))
    console.print(table)
    for stored in facts["newest"]:
        at = datetime.fromtimestamp(stored["received_at"] / 1000, UTC)
        click.echo(f"{stored['id']} {at:%Y-%m-%d %H:%M:%S} {stored['write_key']} {stored['field']}: {stored['reason']}")
        click.echo("    " + json.dumps(stored["payload"], ensure_ascii=False)[:160])


def _print_account(facts: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table("outcome" + (" (dry run)" if facts["dry_run"] else ""), "problem", "records", box=None)
    table.columns[2].justify = "right"
    for outcome in ("accepted", "unchecked", "quarantined"):
        if facts[outcome] or outcome == "accepted":
            table.add_row(outcome, "", str(facts[outcome]))
    for row in facts["problems"]:
        table.add_row(row["outcome"], escape(row["problem"]), str(row["records"]))
    if facts["repeated"]:
        table.add_row("repeated", "older records of the same messages", str(facts["repeated"]))
    table.add_row("[bold]sum", "", str(facts["selected"]))
    Console(stderr=True).print(table)
