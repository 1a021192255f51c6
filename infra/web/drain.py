"""How a worker ends without cutting a request: it asks its clients to leave once the main process says so."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

LEAVE, LEAVE_AND_ACCEPT = signal.SIGUSR1, signal.SIGUSR2  # from the main process to a worker


@dataclass(frozen=True, slots=True)
class MainProcess:
    """What a worker has from the process that forked it.

    `listening`: the socket that all workers accept from. `at_work`: takes a worker's pid once it has an application.
    """

    pid: int
    listening: socket.socket
    at_work: Connection


class Drainable:
    """A worker's WSGI application, which asks its clients to leave once the main process says that it will end.

    From then on each answer closes its connection, and `clickstream.draining` is in each request's environment.
    """

    def __init__(self, application: WSGIApplication, main: MainProcess) -> None:
        self._application, self._main, self._draining = application, main, False
        signal.signal(LEAVE, self._leave)
        signal.signal(LEAVE_AND_ACCEPT, self._leave)
        main.at_work.send(os.getpid())

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if not self._draining:
            return self._application(environ, start_response)

        def start(status: str, headers: list[tuple[str, str]], *error: Any) -> Callable[[bytes], object]:
            return start_response(status, [*headers, ("Connection", "close")], *error)

        return self._application({**environ, "clickstream.draining": True}, start)

    def _leave(self, signum: int, frame: object) -> None:
        self._draining = True
        if signum == LEAVE:
            # The server has no way to stop accepting and go on answering, and at its end it cuts connections that have
            # just been made. So in this process its descriptor becomes that of a socket to which nobody comes.
            with socket.socket(socket.AF_UNIX) as nobody:
                nobody.bind("")
                nobody.listen()
                nobody.setblocking(False)
                os.dup2(nobody.fileno(), self._main.listening.fileno())


def end_with(main: MainProcess) -> None:
    """Ends this worker once its main process is gone, so that the port is free for the next one.

    The main process may be gone already, so its pid was taken before the fork.
    """

    def follow() -> None:
        while True:
            if os.getppid() != main.pid:
                os.kill(os.getpid(), signal.SIGTERM)  # again and again, since a worker that starts does not hear it yet
            time.sleep(0.5)

    threading.Thread(target=follow, name="end-with-main", daemon=True).start()
