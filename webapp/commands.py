"""The web app's part of the command line."""

from __future__ import annotations

import socket

import click

from infra.errors import ServiceError
from infra.settings import Settings


@click.command()
def webapp() -> None:
    """Run the storefront in the foreground, until SIGTERM."""
    from granian.constants import Interfaces
    from granian.server import Server

    from webapp.tracking import write_key

    settings = Settings.from_env()
    write_key(settings)  # here, where its error still reaches the terminal as one line
    _check_port(settings.webapp.host, settings.webapp.port)
    Server(
        "webapp.wsgi:application",
        factory=True,
        address=settings.webapp.host,
        port=settings.webapp.port,
        interface=Interfaces.WSGI,
        workers=1,
        blocking_threads=4,
        websockets=False,
        workers_kill_timeout=10,
    ).serve()


def _check_port(host: str, port: int) -> None:
    """Raises ServiceError where the port is taken. Granian would share it: it binds with SO_REUSEPORT."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            reason = f"can't listen on {host}:{port} (CLICKSTREAM_WEBAPP__PORT): {error.strerror}"
            raise ServiceError("webapp", reason) from error


commands: list[click.Command] = [webapp]
