"""The first events of a fresh process come to all of its threads at once."""

from __future__ import annotations

import subprocess
import sys

FRESH_OFTEN = """
import importlib, sys, threading
from ingest.event.context import Context
from ingest.protocols import native

sys.setswitchinterval(1e-6)
payload = {"event_type": "click", "occurred_at": 1, "anonymous_id": "a", "page": {"url": "/"}}
context = Context(write_key="web", received_at=1, protocol="native")
for _ in range(12):
    importlib.reload(native)
    together = threading.Barrier(16)
    threads = [
        threading.Thread(target=lambda: (together.wait(), native.parse(payload, context))) for _ in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
"""


def test_threads_parse_their_first_event_together() -> None:
    done = subprocess.run([sys.executable, "-c", FRESH_OFTEN], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
