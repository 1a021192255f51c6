"""What granian runs (`clickstream webapp`): the app on the settings in force, in the worker process."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time

import structlog
from flask import Flask

from infra.settings import Settings
from webapp.app import create_app
from webapp.exports import HdfsExports
from webapp.recommendations import RecommendationStore


def application() -> Flask:
    """The factory; an entry point, so it reads the settings. Starts the thread that looks for new exports."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    settings = Settings.from_env()
    threading.Thread(target=_follow_parent, args=(os.getppid(),), name="follow-parent", daemon=True).start()
    store = RecommendationStore(HdfsExports(settings))
    app = create_app(settings, store)
    store.start(settings.webapp.refresh_seconds)
    return app


def _follow_parent(parent: int) -> None:
    """Ends this worker when its main process was killed, so that the port is free for the next one."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGTERM)
