"""The WSGI factory of `clickstream collector`, which granian calls in each worker."""

from __future__ import annotations

import gc
import sys
import threading
from multiprocessing.util import Finalize

from flask import Flask

from infra.settings import Settings
from infra.web import serving
from ingest.delivery.publisher import KafkaPublisher
from ingest.http.app import create_app
from ingest.http.metrics import CollectorMetrics

_SWITCH_SECONDS = 0.02  # a batch of 100 events is 8 ms of work; threads that take turns within it are all late


def application() -> Flask:
    """The collector's app with a Kafka publisher, and the settings from the environment."""
    serving.log_as_json()
    settings = Settings.from_env()
    publisher = KafkaPublisher(settings)
    Finalize(None, publisher.close, exitpriority=1)  # a forked process does not run atexit's functions
    metrics = CollectorMetrics(publisher.state, serving.metrics_folder())
    threading.Thread(target=metrics.follow, name="metrics-follow", daemon=True).start()
    app = create_app(settings, publisher, metrics)
    gc.collect()
    gc.freeze()  # what exists now is never garbage
    sys.setswitchinterval(_SWITCH_SECONDS)
    gc.set_threshold(20_000, 20, 50)  # a batch is thousands of objects, and none of them in a cycle
    return app
