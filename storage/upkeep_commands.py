"""compact, redrive: fewer files, none past their retention, and a second chance for what was quarantined."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from storage.proof_commands import AS_JSON, platform

if TYPE_CHECKING:
    from storage.compact import Compacted
    from storage.retention import Expired


@click.command()
@click.option("--dry-run", is_flag=True, help="Only say what there is to do.")
@AS_JSON
@click.pass_context
def compact(context: click.Context, dry_run: bool, as_json: bool) -> None:
    """Make small landed files of closed batches into larger ones; delete files that are past their retention.

    Exit code 1 if a file could not be read, or if retention met a batch whose ledger does not balance.
    """
    from storage import compact as compaction
    from storage.retention import expire, expire_quarantine

    settings, fs, layout = platform()
    now, sink = datetime.now(UTC), settings.sink
    aside = expire_quarantine(fs, layout, sink.quarantine_retention_days, now, dry_run)
    expired = expire(fs, layout, sink.raw_retention_days, now, dry_run)
    done = compaction.compact(fs, layout, settings.compaction, sink.codec, time.time, dry_run)
    if as_json:
        gone = {"expired": expired.facts(), "expired_quarantine": aside.facts()}
        click.echo(json.dumps(done.facts() | {"dry_run": dry_run} | gone))
    else:
        _show_compacted(done, dry_run)
        _show_expired("raw files", expired, dry_run)
        _show_expired(f"quarantine files with {aside.records:,} records", aside, dry_run)
    if _complain(done, expired, aside):
        context.exit(1)


def _show_compacted(done: Compacted, dry_run: bool) -> None:
    will, outcome = ("would become", done.groups) if dry_run else ("became", done.written)
    click.echo(f"{done.files_before:,} files of {done.bytes_before:,} bytes {will} {outcome:,}")
    if not dry_run:
        click.echo(f"{done.deleted:,} old files deleted, {done.ledgers:,} ledgers brought up to date")


def _show_expired(what: str, expired: Expired, dry_run: bool) -> None:
    if expired.batches or expired.files:
        will = "would go" if dry_run else "went"
        click.echo(f"{expired.files:,} {what} {will}, of {len(expired.batches):,} batches past their retention")


def _complain(done: Compacted, expired: Expired, aside: Expired) -> bool:
    """Tells what stays undone; whether there is any."""
    told = [f"not compacted: {path}: {reason}" for path, reason in done.failed.items()]
    told += [f"kept, since its larger file says something else: {path}" for path in done.kept]
    told += [f"kept, since it does not say how many records it holds: {path}" for path in aside.kept]
    for tree, refused in (("raw", expired.refused), ("quarantine", aside.refused)):
        if refused:
            told.append(f"retention of {tree} stops before batch {refused}: its ledger does not balance")
    for line in told:
        click.echo(line, err=True)
    return bool(told)


@click.command()
@click.option("--dry-run", is_flag=True, help="Only say what would be sent.")
@AS_JSON
def redrive(dry_run: bool, as_json: bool) -> dict[str, Any]:
    """Append what is quarantined to the topic again, as far as it can be read by now; once each."""
    from storage import redrive as second_chance
    from storage.schemas import Registry
    from storage.source import SchemaTopic, append

    settings, fs, layout = platform()
    registry = Registry()
    topic = SchemaTopic(settings, registry)
    try:
        topic.refresh()
        done = second_chance.redrive(
            fs, layout, registry, lambda values: append(settings, layout.topic, values), dry_run
        )
    finally:
        topic.close()
    facts = done.facts()
    click.echo(
        json.dumps(facts)
        if as_json
        else f"{done.quarantined:,} quarantined, {done.redriven:,} sent again{' (not really)' if dry_run else ''}, "
        f"{done.before:,} before; unreadable still: {dict(done.unreadable) or 'none'}"
    )
    return facts
