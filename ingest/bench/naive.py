"""The collector's peer in the benchmark: a Flask app that waits for Kafka's ack and checks nothing.

No key, no validation, no enrichment, no schema, no spool, no metrics: only the cost of Flask, JSON and acknowledged
records.
"""

from __future__ import annotations

import json
import threading
from typing import Any

import confluent_kafka
from flask import Flask, Response, jsonify, request

from infra.settings import Settings
from infra.web import serving
from ingest.delivery.publisher import producer_config

WAIT_SECONDS = 10


def application() -> Flask:
    """The factory that granian runs."""
    settings = Settings.from_env()
    producer = confluent_kafka.Producer(producer_config(settings))
    threading.Thread(target=_poll, args=(producer,), daemon=True).start()
    app = Flask("ingest.bench.naive", static_folder=None)

    @app.post("/collect")
    def collect() -> tuple[Response, int]:
        document = request.get_json()
        events = document.get("batch", [document])
        missing, errors, complete = len(events), [], threading.Event()

        def on_delivery(error: Any, message: Any) -> None:
            nonlocal missing
            if error is not None:
                errors.append(error)
            missing -= 1
            if not missing:
                complete.set()

        for event in events:
            producer.produce(settings.kafka.topic, json.dumps(event), event["anonymous_id"], on_delivery=on_delivery)
        if not complete.wait(WAIT_SECONDS) or errors:
            return jsonify(error="not stored"), 503
        return jsonify(accepted=len(events)), 200

    return app


def _poll(producer: Any) -> None:
    while True:
        producer.poll(1)


def main() -> None:
    """Serves as the collector is served, with the same workers and threads."""
    collector = Settings.from_env().collector
    serving.serve(
        "collector",
        "ingest.bench.naive:application",
        collector.host,
        collector.port,
        collector.threads,
        collector.workers,
    )


if __name__ == "__main__":
    main()
