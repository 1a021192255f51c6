"""The web app's part of the command line."""

from __future__ import annotations

import click

from infra.settings import Settings


@click.command()
def webapp() -> None:
    """Run the storefront in the foreground, until SIGTERM."""
    from infra.web.serving import serve
    from webapp.tracking import write_key

    settings = Settings.from_env()
    write_key(settings)  # here, where its error still reaches the terminal as one line
    serve("webapp", "webapp.wsgi:application", settings.webapp.host, settings.webapp.port, threads=4)


commands: list[click.Command] = [webapp]
