"""Commands compact and redrive: merges and expires files, and sends quarantined records again."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from infra.options import AS_JSON
from storage.cli.context import platform

if TYPE_CHECKING:
    from storage.upkeep.compaction import Compacted
    from storage.upkeep.retention import Expired


@click.command("compact")
@click.option("--dry-run", is_flag=True, help="Only say what there is to do.")
@AS_JSON
@click.pass_context
def compact_command(context: click.Context, dry_run: bool, as_json: bool) -> None:
    """Make small landed files of closed batches into larger ones; delete files that are past their retention.

    Topics without batches (what was rejected, sink.topics) are joined and deleted by the age of their files alone.
    Exit code 1 if a file could not be read, or if retention met a batch whose ledger does not balance.
    """
    from storage.layout import Layout
    from storage.upkeep import compaction
    from storage.upkeep.retention import expire, expire_quarantine, expire_unbatched

    settings, fs, layout = platform()
    now, sink, rules = datetime.now(UTC), settings.sink, settings.compaction
    quarantine = expire_quarantine(fs, layout, sink.quarantine_retention_days, now, dry_run)
    expired = expire(fs, layout, sink.raw_retention_days, now, dry_run)
    done = compaction.compact(fs, layout, rules, sink.codec, time.time, dry_run)
    others = {}
    for topic in (settings.kafka.rejected_topic, *sink.topics):
        other = Layout(settings.hdfs.root, topic)
        gone = expire_unbatched(fs, other, sink.raw_retention_days, now, dry_run)
        others[topic] = gone, compaction.compact(fs, other, rules, sink.codec, time.time, dry_run, batched=False)
    if as_json:
        of_others = {topic: joined.facts() | {"expired": gone.facts()} for topic, (gone, joined) in others.items()}
        more = {"expired": expired.facts(), "expired_quarantine": quarantine.facts(), "others": of_others}
        click.echo(json.dumps(done.facts() | {"dry_run": dry_run} | more))
    else:
        _show_compacted(layout.topic, done, dry_run)
        _show_expired("raw files", expired, dry_run)
        _show_expired(f"quarantine files with {quarantine.records:,} records", quarantine, dry_run)
        for topic, (gone, joined) in others.items():
            _show_compacted(topic, joined, dry_run)
            _show_expired("files", gone, dry_run)
    undone = [_complain(done, expired, quarantine), *(_complain(joined, gone) for gone, joined in others.values())]
    if any(undone):
        context.exit(1)


def _show_compacted(topic: str, done: Compacted, dry_run: bool) -> None:
    will, outcome = ("would become", done.groups) if dry_run else ("became", done.written)
    click.echo(f"{topic}: {done.files_before:,} files of {done.bytes_before:,} bytes {will} {outcome:,}")
    if not dry_run:
        click.echo(f"{done.deleted:,} old files deleted, {done.ledgers:,} ledgers brought up to date")


def _show_expired(what: str, expired: Expired, dry_run: bool) -> None:
    if expired.batches or expired.files:
        will = "would go" if dry_run else "went"
        of = f", of {len(expired.batches):,} batches" if expired.batches else ""
        click.echo(f"{expired.files:,} {what} {will}{of}, past their retention")


def _complain(done: Compacted, expired: Expired, quarantine: Expired | None = None) -> bool:
    """Prints what could not be done; False if that is nothing."""
    told = [f"not compacted: {path}: {reason}" for path, reason in done.failed.items()]
    told += [f"kept, since its larger file says something else: {path}" for path in done.kept]
    told += [
        f"kept, since it does not say how many records it holds: {path}"
        for path in (quarantine.kept if quarantine else ())
    ]
    for tree, refused in (("raw", expired.refused), ("quarantine", quarantine.refused if quarantine else None)):
        if refused:
            told.append(f"retention of {tree} stops before batch {refused}: its ledger does not balance")
    for line in told:
        click.echo(line, err=True)
    return bool(told)


@click.command("redrive")
@click.option("--dry-run", is_flag=True, help="Only say what would be sent.")
@AS_JSON
def redrive_command(dry_run: bool, as_json: bool) -> dict[str, Any]:
    """Append what is quarantined to the topic again, as far as it can be read by now; once each."""
    from storage.formats.schemas import SchemaRegistry
    from storage.sink.schema_topic import SchemaTopic, append
    from storage.upkeep.redriving import redrive

    settings, fs, layout = platform()
    schemas = SchemaRegistry()
    topic = SchemaTopic(settings, schemas)
    try:
        topic.refresh()
        done = redrive(fs, layout, schemas, lambda values: append(settings, layout.topic, values), dry_run)
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
