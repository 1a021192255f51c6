"""What granian runs: the collector with its real publisher, in the worker process."""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
import time

import structlog
from flask import Flask

from infra.settings import Settings
from ingest.collector import create_app
from ingest.publisher import KafkaPublisher


def application() -> Flask:
    """The factory; an entry point, so it reads the settings."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    settings = Settings.from_env()
    publisher = KafkaPublisher(settings)
    atexit.register(publisher.close)
    threading.Thread(target=_follow_parent, args=(os.getppid(),), name="follow-parent", daemon=True).start()
    return create_app(settings, publisher)


def _follow_parent(parent: int) -> None:
    """Ends this worker when its main process was killed, so that the port is free for the next one."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGTERM)
