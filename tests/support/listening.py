"""A server that hears what Airflow tells others."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any


@dataclass
class Heard:
    """What a server at `url` was told: names of metrics, and failures."""

    url: str
    metrics: set[str] = field(default_factory=set)
    failures: list[dict[str, Any]] = field(default_factory=list)


@contextmanager
def listening() -> Iterator[Heard]:
    """A server that takes OTLP at /v1/metrics and failures at /failed."""

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.path == "/failed":
                heard.failures.append(json.loads(body))
            else:
                heard.metrics.update(_names(gzip.decompress(body) if self._is_zipped() else body))
            self.send_response(200)
            self.end_headers()

        def _is_zipped(self) -> bool:
            return self.headers.get("Content-Encoding") == "gzip"

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as server:
        heard = Heard(f"http://127.0.0.1:{server.server_port}")
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield heard
        server.shutdown()


def _names(sent: bytes) -> set[str]:
    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

    request = ExportMetricsServiceRequest()
    request.ParseFromString(sent)
    return {metric.name for r in request.resource_metrics for scope in r.scope_metrics for metric in scope.metrics}
