"""What granian runs: the collector with its real publisher, in the worker process."""

from __future__ import annotations

import atexit
import gc

from flask import Flask

from infra import serving
from infra.settings import Settings
from ingest.collector import create_app
from ingest.publisher import KafkaPublisher


def application() -> Flask:
    """The factory; an entry point, so it reads the settings."""
    serving.log_as_json()
    settings = Settings.from_env()
    publisher = KafkaPublisher(settings)
    atexit.register(publisher.close)
    serving.end_with_parent()
    app = create_app(settings, publisher)
    gc.collect()
    gc.freeze()  # what is there now stays for ever: no need to look through it again and again
    gc.set_threshold(20_000, 20, 50)  # a batch is thousands of objects, and none of them in a cycle
    return app
