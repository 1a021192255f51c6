"""What granian runs: the collector with its real publisher, in the worker process."""

from __future__ import annotations

import gc
import sys
import threading
from multiprocessing.util import Finalize

from infra import serving
from infra.settings import Settings
from ingest.collector import create_app
from ingest.metrics import CollectorMetrics
from ingest.publisher import KafkaPublisher

_SWITCH_SECONDS = 0.02  # a batch of 100 events is 8 ms of work; threads that take turns within it are all late


def application() -> serving.Drainable:
    """The factory; an entry point, so it reads the settings."""
    serving.log_as_json()
    settings = Settings.from_env()
    publisher = KafkaPublisher(settings)
    Finalize(None, publisher.close, exitpriority=1)  # a forked process does not look at atexit
    serving.end_with_parent()
    metrics = CollectorMetrics(publisher.state, serving.metrics_folder())
    threading.Thread(target=metrics.follow, name="metrics-follow", daemon=True).start()
    app = create_app(settings, publisher, metrics)
    gc.collect()
    gc.freeze()  # what is there now stays for ever: no need to look through it again and again
    sys.setswitchinterval(_SWITCH_SECONDS)
    gc.set_threshold(20_000, 20, 50)  # a batch is thousands of objects, and none of them in a cycle
    return serving.Drainable(app)
