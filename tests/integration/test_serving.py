"""Workers and their main process, as servers of ours have them."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from infra.web import serving
from tests.support.waiting import eventually


def slow_application() -> Callable[..., list[bytes]]:
    """A factory that is still at it when its main process dies."""
    time.sleep(2)
    return lambda environ, start: []


def test_a_worker_whose_main_process_is_killed_while_it_starts_ends_too() -> None:
    port = serving.free_port("127.0.0.1")
    code = (
        f"from infra.web import serving; serving.serve('test', '{__name__}:slow_application', '127.0.0.1', {port}, 1)"
    )
    with subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parents[2]) as main:
        workers: list[psutil.Process] = []
        try:
            eventually(lambda: workers.extend(psutil.Process(main.pid).children()) or workers)
            main.kill()
            main.wait()
            eventually(lambda: not any(map(psutil.Process.is_running, workers)), 30)
        finally:
            main.kill()
            for worker in workers:
                if worker.is_running():
                    worker.kill()
