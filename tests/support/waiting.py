"""Waiting for what other threads and processes do."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol


class Worker(Protocol):
    """What is waited for; `failure` is what ended it, if anything did."""

    failure: BaseException | None


def eventually(condition: Callable[[], bool], seconds: float = 60.0, worker: Worker | None = None) -> None:
    """Waits until it holds; fails when it does not in time, or at once when the worker has failed."""
    deadline = time.monotonic() + seconds
    while not condition():
        if worker is not None and worker.failure:
            raise worker.failure
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.05)
