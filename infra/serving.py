"""How the platform's own web servers run: granian, structured logs, and an end together with their main process."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time

import structlog

from infra.errors import ServiceError
from infra.settings import PREFIX


def serve(service: str, application: str, host: str, port: int, threads: int, workers: int = 1) -> None:
    """Serves the WSGI factory `application` ("module:name") by `workers` processes of `threads` each, until SIGTERM.

    Raises ServiceError where the port is taken: granian would share it, since it binds with SO_REUSEPORT.
    """
    from granian.constants import Interfaces
    from granian.server import Server

    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            reason = f"can't listen on {host}:{port} ({PREFIX}{service.upper()}__PORT): {error.strerror}"
            raise ServiceError(service, reason) from error
    Server(
        application,
        factory=True,
        address=host,
        port=port,
        interface=Interfaces.WSGI,
        workers=workers,
        blocking_threads=threads,
        websockets=False,
        workers_kill_timeout=20,
    ).serve()


def free_port(host: str) -> int:
    """A port that nobody listens on now."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def log_as_json() -> None:
    """One event a line on stderr, for every process that runs unattended."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


def end_with_parent() -> None:
    """Ends this worker when its main process was killed, so that the port is free for the next one."""
    parent = os.getppid()

    def follow() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=follow, name="end-with-parent", daemon=True).start()
