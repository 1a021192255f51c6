"""Commands erasures request and erasures list: requests to forget a person, and how far each is."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import click

from infra.options import AS_JSON
from storage.cli.context import platform


@click.group("erasures")
def erasures_command() -> None:
    """Requests to forget a person; the job erase_people, which Airflow runs each night, carries them out."""


@erasures_command.command("request")
@click.option("--user-id", "user_ids", multiple=True, help="As identify and logged-in events have it.")
@click.option("--anonymous-id", "anonymous_ids", multiple=True, help="As the visitor's cookie has it.")
@AS_JSON
def request_command(user_ids: tuple[str, ...], anonymous_ids: tuple[str, ...], as_json: bool) -> dict[str, Any]:
    """Ask that somebody be forgotten, with all that they did until now.

    A user's anonymous visits are found by what is known of their browsers, but for browsers that others use too. The
    request is open until a run finds nothing of them any more, then their ids are forgotten as well.
    """
    from storage.upkeep import erasure_requests

    settings, fs, _ = platform()
    asked = erasure_requests.ask(fs, settings.hdfs.root, user_ids, anonymous_ids, datetime.now(UTC))
    facts = {"id": asked.id, "requested_at": asked.requested_at}
    click.echo(json.dumps(facts) if as_json else f"request {asked.id} is open")
    return facts


@erasures_command.command("list")
@AS_JSON
def list_command(as_json: bool) -> list[dict[str, Any]]:
    """Show all requests, the oldest first; without ids of people, for whoever reads a log."""
    from rich.console import Console
    from rich.table import Table

    from storage.upkeep import erasure_requests

    settings, fs, _ = platform()
    root = settings.hdfs.root
    names = ("id", "requested_at", "erased_at")
    found = [
        {name: getattr(one, name) for name in names} | {"done_at": None} for one in erasure_requests.pending(fs, root)
    ]
    found = sorted([*erasure_requests.done(fs, root), *found], key=lambda one: str(one["requested_at"]))
    if as_json:
        click.echo(json.dumps(found))
        return found
    table = Table("request", "requested at", "erased at", "done at", box=None)
    for one in found:
        table.add_row(*(str(one[name] or "-") for name in (*names, "done_at")))
    Console().print(table)
    return found
