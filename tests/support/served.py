"""A collector under load, and the account of what its clients were told."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import requests

from infra.settings import Settings
from ingest.tools.tail import tail
from tests.support.waiting import eventually

CLIENTS = 8


@dataclass
class Account:
    """What clients were told of each message, and how long the answers took in seconds; `name` begins its ids."""

    name: str = field(default_factory=lambda: uuid.uuid4().hex[:8])
    accepted: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)
    cut: set[str] = field(default_factory=set)  # no answer: the client can't know
    seconds: list[float] = field(default_factory=list)

    @property
    def p99(self) -> float:
        return sorted(self.seconds)[int(len(self.seconds) * 0.99)]


@contextmanager
def load(settings: Settings, account: Account) -> Iterator[None]:
    """Clients that post one event, then five, and so on, until the block ends."""
    stop = threading.Event()
    url = f"{settings.collector.address}/collect"

    def client(number: int) -> None:
        session, sent = requests.Session(), 0
        while not stop.is_set():
            ids = [f"{account.name}-{number}-{sent + n}" for n in range(1 if sent % 2 else 5)]
            sent += len(ids)
            began = time.monotonic()
            try:
                answer = session.post(
                    url, json=[event(id_) for id_ in ids], headers={"X-Write-Key": "demo"}, timeout=30
                )
            except requests.RequestException:
                account.cut.update(ids)
                time.sleep(0.05)
                continue
            account.seconds.append(time.monotonic() - began)
            if answer.ok:
                assert answer.json()["accepted"] == len(ids)
                account.accepted.update(ids)
            else:
                assert answer.status_code == 503 and answer.headers["Retry-After"]
                account.refused.update(ids)
                time.sleep(0.02)

    with ThreadPoolExecutor(CLIENTS) as pool:
        running = [pool.submit(client, number) for number in range(CLIENTS)]
        try:
            yield
        finally:
            stop.set()
        for one in running:
            one.result()


def event(message_id: str) -> dict[str, Any]:
    return {
        "message_id": message_id,
        "event_type": "page_view",
        "occurred_at": time.time_ns() // 1_000_000,
        "anonymous_id": message_id.rsplit("-", 1)[0],
        "page": {"url": f"https://shop.example/{message_id}"},
    }


def in_kafka(settings: Settings, name: str) -> Counter[str]:
    """How often each message of this account is there, once the spool is empty."""
    eventually(lambda: health(settings)["spooled"] == 0 and health(settings)["kafka"] == "up")
    records = tail(settings, settings.kafka.topic, from_beginning=True, follow=False)
    ids = (record.as_dict()["value"]["message_id"] for record in records)
    return Counter(id_ for id_ in ids if id_.startswith(f"{name}-"))


def health(settings: Settings) -> dict[str, Any]:
    try:
        found: dict[str, Any] = requests.get(f"{settings.collector.address}/readyz", timeout=5).json()
    except requests.RequestException:
        return {"spooled": -1, "kafka": "unknown"}
    return found


def balanced(settings: Settings, account: Account) -> None:
    """No accepted event is missing, no refused one is there. Doubles are told: curation removes them by their ids."""
    found = in_kafka(settings, account.name)
    missing, intruders = account.accepted - found.keys(), account.refused & found.keys()
    doubles = sum(count - 1 for count in found.values())
    print(
        f"accepted {len(account.accepted)}, refused {len(account.refused)}, cut {len(account.cut)}, "
        f"doubles {doubles}, p99 {account.p99 * 1000:.0f} ms"
    )
    assert (missing, intruders) == (set(), set())


@contextmanager
def collector(
    settings: Settings, log: Path, environment: Mapping[str, str] | None = None, end: signal.Signals = signal.SIGTERM
) -> Iterator[None]:
    """`clickstream collector` as a process of the test's own, ended by a signal."""
    command = [Path(sys.executable).with_name("clickstream"), "collector"]
    whole = {**os.environ, **settings.to_env(), **(environment or {})}
    with log.open("ab") as output:
        process = subprocess.Popen(command, env=whole, stdout=output, stderr=output)
    try:
        eventually(lambda: process.poll() is not None or health(settings)["kafka"] != "unknown")
        assert process.poll() is None, f"the collector ended: {log.read_text()}"
        yield
    finally:
        family = psutil.Process(process.pid).children(recursive=True) if end is signal.SIGKILL else []
        for one in (process, *family):
            one.send_signal(end)
        process.wait(30)
