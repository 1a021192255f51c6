"""The web app's part of the command line."""

from __future__ import annotations

import click

from infra.settings import Settings


@click.command()
def webapp() -> None:
    """Run the storefront in the foreground, until SIGTERM."""
    from granian.constants import Interfaces
    from granian.server import Server

    from webapp.tracking import write_key

    settings = Settings.from_env()
    write_key(settings)  # here, where its error still reaches the terminal as one line
    Server(
        "webapp.wsgi:application",
        factory=True,
        address=settings.webapp.host,
        port=settings.webapp.port,
        interface=Interfaces.WSGI,
        workers=1,
        blocking_threads=8,
        websockets=False,
        workers_kill_timeout=10,
    ).serve()


commands: list[click.Command] = [webapp]
