"""`clickstream` commands of storage in this process, and what they print as JSON."""

from __future__ import annotations

import json
from typing import Any

from click.testing import CliRunner, Result

from infra.settings import Settings
from storage.cli.commands import commands


def run(settings: Settings, *arguments: str) -> Result:
    """A command with these settings in its environment."""
    names = {"kafka": ["port", "topic"], "hdfs": ["port", "root"]}
    environment = {
        f"CLICKSTREAM_{part}__{name}".upper(): str(getattr(getattr(settings, part), name))
        for part, fields in names.items()
        for name in fields
    }
    command = next(command for command in commands if command.name == arguments[0])
    return CliRunner().invoke(command, arguments[1:], env=environment)


def facts(result: Result) -> dict[str, Any]:
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    found: dict[str, Any] = json.loads(result.stdout)
    return found
