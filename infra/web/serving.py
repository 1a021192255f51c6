"""Runs the platform's web servers: granian, structured logs, and a shutdown that cuts no request.

The main process owns the listening socket: the one passed as its stdin (systemd's StandardInput=socket), else one of
its own. SIGHUP replaces the workers one by one, with the current code, settings and certificates; SIGTERM ends them.
Before a worker ends it asks its clients to leave: see `drain`.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import shutil
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import structlog

from infra.errors import ConfigurationError, ServiceError
from infra.settings import PREFIX
from infra.settings.collector import Tls
from infra.web.drain import LEAVE, LEAVE_AND_ACCEPT, Drainable, MainProcess, end_with

if TYPE_CHECKING:
    from infra.web.rolling_server import RollingServer

BACKLOG = 1024  # connections that wait to be accepted
_KILL_SECONDS = 20
_SHARED_MEMORY = Path("/dev/shm")
_METRICS = "clickstream-metrics-"  # and the main process's pid
_METRICS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"


def serve(
    service: str,
    application: str,
    host: str,
    port: int,
    threads: int,
    workers: int = 1,
    drain_seconds: float = 0.0,
    tls: Tls | None = None,
) -> None:
    """Serves the WSGI factory `application` ("module:name") by `workers` processes of `threads` each, until SIGTERM.

    `drain_seconds`: how long clients are asked to leave before a worker ends. Raises ServiceError if the port is taken,
    ConfigurationError if the certificate can't be used.
    """
    given = _inherited_socket()
    listening = given or _bound_socket(service, host, port)
    multiprocessing.set_start_method("fork", force=True)  # a spawned worker has no such socket
    at_work, worker_end = multiprocessing.Pipe(duplex=False)
    main = MainProcess(os.getpid(), listening, worker_end)

    def load(target: str) -> Drainable:
        """The application, made in the worker."""
        end_with(main)
        module, _, factory = target.partition(":")
        return Drainable(getattr(importlib.import_module(module), factory)(), main)

    options = {
        "address": host,
        "port": port,
        "workers": workers,
        "blocking_threads": threads,
        "ssl_cert": tls and tls.certificate,
        "ssl_key": tls and tls.key,
    }
    try:
        server = _server(application, listening, at_work, drain_seconds, options)
    except OSError as error:
        raise ConfigurationError([f"{PREFIX}{service.upper()}__TLS: {error}"]) from error

    def end(signum: int, frame: object) -> None:
        # With an inherited socket, new connections wait for the next server; else this one still answers them.
        server.drain(LEAVE if given else LEAVE_AND_ACCEPT)
        threading.Timer(drain_seconds, server.signal_handler_interrupt).start()

    server.on_startup(lambda: signal.signal(signal.SIGTERM, end))
    server.serve(target_loader=load)


def _server(
    application: str, listening: socket.socket, at_work: Connection, drain_seconds: float, options: Mapping[str, Any]
) -> RollingServer:
    """The server with the options that all of ours have. Raises OSError for a certificate that can't be read."""
    from granian.constants import HTTPModes, Interfaces

    from infra.web.rolling_server import RollingServer

    return RollingServer(
        application,
        listening=listening,
        backlog=BACKLOG,
        at_work=at_work,
        drain_seconds=drain_seconds,
        interface=Interfaces.WSGI,
        http=HTTPModes.http1,  # a connection whose version is not known yet would be cut at the end
        websockets=False,
        respawn_failed_workers=True,
        workers_kill_timeout=_KILL_SECONDS,
        ssl_protocol_min="tls1.2",
        **options,
    )


@contextmanager
def shared_metrics(home: Path) -> Iterator[None]:
    """Sets up the folder in which the workers started in the block share their metrics; removes those of dead servers.

    The folder is in /dev/shm if possible, as writing to a mapped file on a full disk kills the process.
    prometheus_client chooses its storage when it is imported, so it must not have been imported before.
    """
    assert "prometheus_client" not in sys.modules
    parent = _SHARED_MEMORY if os.access(_SHARED_MEMORY, os.W_OK) else home / "run"
    parent.mkdir(parents=True, exist_ok=True)
    for other in parent.glob(f"{_METRICS}*"):
        if not psutil.pid_exists(int(other.name.split("-")[2])):
            shutil.rmtree(other, ignore_errors=True)  # another user's stays
    with tempfile.TemporaryDirectory(prefix=f"{_METRICS}{os.getpid()}-", dir=parent) as folder:
        os.environ[_METRICS_FOLDER] = folder
        yield


def metrics_folder() -> Path:
    """Folder in which this server's workers share their metrics."""
    return Path(os.environ[_METRICS_FOLDER])


def _inherited_socket() -> socket.socket | None:
    """The listening socket that is stdin, if it is one."""
    try:
        given = socket.socket(fileno=os.dup(0))
    except OSError:
        return None
    if given.type == socket.SOCK_STREAM and given.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        given.setblocking(False)
        return given
    given.close()
    return None


def _bound_socket(service: str, host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        bound = socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        reason = f"can't listen on {host}:{port} ({PREFIX}{service.upper()}__PORT): {error.strerror}"
        raise ServiceError(service, reason) from error
    bound.setblocking(False)
    return bound


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
