"""granian's server with one listening socket for all workers, whose workers are replaced without cutting a request.

Granian gives each worker a socket of its own, and resets its waiting connections when the worker ends; and it ends the
old worker after a time, whether the new one works or not. This overrides its internals: the lock file pins the version,
and tests/integration/test_collector_server.py tests the behaviour.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Any

import structlog
from granian._granian import SocketHolder
from granian.server import Server

from infra.web.drain import LEAVE

_READY_SECONDS = 60
_log = structlog.get_logger()


class RollingServer(Server):  # type: ignore[misc,valid-type]
    """Each worker sends its pid by `at_work` once it has an application."""

    def __init__(
        self, target: str, *, listening: socket.socket, at_work: Connection, drain_seconds: float, **options: Any
    ) -> None:
        super().__init__(target, **options)
        self._listening, self._at_work, self._drain_seconds = listening, at_work, drain_seconds

    def drain(self, how: signal.Signals) -> None:
        """Tells all workers to ask their clients to leave."""
        for worker in self.wrks:
            _tell(worker, how)

    def _init_shared_socket(self) -> None:
        self._ssp, self._sso = None, None
        self._shd = SocketHolder(self._listening.fileno(), False, self.backlog)  # type: ignore[call-arg]

    def _respawn_workers(self, workers: Sequence[int], spawn_target: Any, target_loader: Any, delay: float = 0) -> None:
        for index in workers:
            self._replace(index, spawn_target, target_loader)

    def _replace(self, index: int, spawn_target: Any, target_loader: Any) -> None:
        """Starts a new worker, and ends the old one once the new one is at work; else keeps the old one."""
        self.respawned_wrks[index] = time.monotonic()
        old, new = self.wrks[index], self._spawn_worker(index, spawn_target, target_loader)
        new.start()
        deadline = time.monotonic() + _READY_SECONDS
        while not (self._at_work.poll(0.1) and self._at_work.recv() == new.inner.pid):
            if not new.is_alive() or time.monotonic() > deadline:
                return self._give_up(index, old, new)
        self.wrks[index] = new
        if not old.is_alive():
            return
        _tell(old, LEAVE)
        time.sleep(self._drain_seconds)
        old.terminate()
        old.join(self.workers_kill_timeout)
        if old.is_alive():
            old.kill()
            old.join()

    def _give_up(self, index: int, old: Any, new: Any) -> None:
        new.kill()
        new.join()
        if not old.is_alive():  # no worker is left: the server ends, so that its supervisor sees it
            self.wrks[index] = new
            self.interrupt_signal = True
            self.main_loop_interrupt.set()
            return
        _log.error("worker_not_replaced", worker=index + 1, reason="the new one does not start; see above")
        time.sleep(0.2)  # until the new one's end is noticed, which is no reason to start another
        if index in self.interrupt_children:
            self.interrupt_children.remove(index)


def _tell(worker: Any, what: signal.Signals) -> None:
    if worker.is_alive():
        os.kill(worker.inner.pid, what)
