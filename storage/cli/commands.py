"""All commands of storage, for the entry point in pyproject.toml."""

from __future__ import annotations

import click

from storage.bench import commands as bench
from storage.cli.batches import cut_command, report_command
from storage.cli.erasures import erasures_command
from storage.cli.proof import audit_command, ledger_command
from storage.cli.sink import sink_command
from storage.cli.upkeep import compact_command, redrive_command

commands: list[click.Command] = [
    sink_command,
    cut_command,
    ledger_command,
    report_command,
    audit_command,
    compact_command,
    redrive_command,
    erasures_command,
    *bench.commands,
]
