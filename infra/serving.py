"""How the platform's own web servers run: granian, structured logs, and an end that cuts no request.

The main process owns the listening socket: one that it was given as its stdin (systemd's StandardInput=socket), else
one of its own. SIGHUP replaces the workers one by one, with the code, settings and certificates of then; SIGTERM ends
them. Before a worker ends it asks its clients to leave: see `Drainable`.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import structlog

from infra.errors import ConfigurationError, ServiceError
from infra.sections import Tls
from infra.settings import PREFIX

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

BACKLOG = 1024
LEAVE, LEAVE_AND_ACCEPT = signal.SIGUSR1, signal.SIGUSR2  # from the main process to a worker
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

    The factory makes a `Drainable`. `drain_seconds`: how long clients are asked to leave before a worker ends. Raises
    ServiceError where the port is taken, ConfigurationError for a certificate that can't be used.
    """
    from granian.constants import HTTPModes, Interfaces

    from infra.rolling import RollingServer

    given = _inherited_socket()
    listening = given or _bound_socket(service, host, port)
    multiprocessing.set_start_method("fork", force=True)  # a spawned worker has no such socket
    at_work, Drainable.at_work = multiprocessing.Pipe(duplex=False)
    Drainable.listening, Drainable.main = listening, os.getpid()
    try:
        server = RollingServer(
            application,
            listening=listening,
            at_work=at_work,
            drain_seconds=drain_seconds,
            factory=True,
            address=host,
            port=port,
            interface=Interfaces.WSGI,
            workers=workers,
            blocking_threads=threads,
            http=HTTPModes.http1,  # a connection whose version is not known yet would be cut at the end
            websockets=False,
            respawn_failed_workers=True,
            workers_kill_timeout=_KILL_SECONDS,
            ssl_cert=tls and tls.certificate,
            ssl_key=tls and tls.key,
            ssl_protocol_min="tls1.2",
        )
    except OSError as error:
        raise ConfigurationError([f"{PREFIX}{service.upper()}__TLS: {error}"]) from error

    def end(signum: int, frame: object) -> None:
        # Who comes now waits for our successor where there is one, and is told the truth by us where there is none.
        server.drain(LEAVE if given else LEAVE_AND_ACCEPT)
        threading.Timer(drain_seconds, server.signal_handler_interrupt).start()

    server.on_startup(lambda: signal.signal(signal.SIGTERM, end))
    server.serve()


class Drainable:
    """A worker's WSGI application, which asks its clients to leave once the main process says that it will end.

    From then on each answer closes its connection, and `clickstream.draining` is in each request's environment.
    """

    # What the main process sets, and its forks have; `main` is its pid.
    listening: socket.socket | None = None
    at_work: Connection | None = None
    main: int = 0

    def __init__(self, application: WSGIApplication) -> None:
        self._application, self._draining = application, False
        signal.signal(LEAVE, self._leave)
        signal.signal(LEAVE_AND_ACCEPT, self._leave)
        if self.at_work is not None:
            self.at_work.send(os.getpid())

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if not self._draining:
            return self._application(environ, start_response)

        def start(status: str, headers: list[tuple[str, str]], *error: Any) -> Callable[[bytes], object]:
            return start_response(status, [*headers, ("Connection", "close")], *error)

        return self._application({**environ, "clickstream.draining": True}, start)

    def _leave(self, signum: int, frame: object) -> None:
        self._draining = True
        if signum == LEAVE and self.listening is not None:
            # The server has no way to stop accepting and go on answering, and at its end it cuts connections that have
            # just been made. So in this process its descriptor becomes that of a socket to which nobody comes.
            with socket.socket(socket.AF_UNIX) as nobody:
                nobody.bind("")
                nobody.listen()
                nobody.setblocking(False)
                os.dup2(nobody.fileno(), self.listening.fileno())


@contextmanager
def shared_metrics(home: Path) -> Iterator[None]:
    """Lets the workers that are started within share their numbers; what processes that are gone left is removed.

    In memory where the machine has a place for it: a process that writes to a mapped file on a full disk is killed. How
    prometheus_client keeps numbers is settled when it is imported, so that must not have been before.
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
    """Where the workers of this server share their numbers."""
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


def end_with_parent() -> None:
    """Ends this worker when its main process was killed, so that the port is free for the next one.

    That may have been before the worker got here, so it is not asked who the parent is now.
    """

    def follow() -> None:
        while True:
            if os.getppid() != Drainable.main:
                os.kill(os.getpid(), signal.SIGTERM)  # again and again, since a worker that starts does not hear it yet
            time.sleep(0.5)

    threading.Thread(target=follow, name="end-with-parent", daemon=True).start()
