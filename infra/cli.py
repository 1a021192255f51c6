"""The command `clickstream`. Each package adds its commands by the entry-point group clickstream.commands."""

from __future__ import annotations

import gc
import sys
from importlib.metadata import entry_points

import click

from infra.errors import MAY_PASS, ClickstreamError


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="clickstream")
def cli() -> None:
    """A clickstream platform: collect to Kafka, land exactly once on HDFS, learn with Spark, serve and measure."""


def load_commands() -> None:
    """Adds the commands of all installed packages."""
    for entry in entry_points(group="clickstream.commands"):
        for command in entry.load():
            cli.add_command(command)


def main() -> None:
    """Runs the command line. A ClickstreamError becomes one line on stderr and exit code 2, or 75 if it may pass."""
    gc.disable()  # a collection among what is imported finds nothing
    load_commands()
    gc.enable()
    try:
        cli()
    except ClickstreamError as error:
        click.echo(f"clickstream: {error}", err=True)
        sys.exit(MAY_PASS if error.may_pass else 2)


if __name__ == "__main__":
    main()
