"""Sinks as processes, loads of events for them, and a supervisor that starts them again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from confluent_kafka import Producer

from infra.settings import Settings
from storage.batches import cuts, ledger
from tests.support.corners import own_topics, publish_schema
from tests.support.events import event
from tests.support.failing_sink import Fault
from tests.support.landing import Landing
from tests.support.ports import free_ports
from tests.support.waiting import Worker, eventually

ROOT = Path(__file__).parents[2]
SESSION = {"session.timeout.ms": "6000"}  # a member killed with -9 holds its partitions so long; the least a broker has
Sent = dict[int, list[str | None]]  # partition -> message ids in order of offsets; None for what is no event


def corner(cluster: Settings, partitions: int = 1, **sink: Any) -> Landing:
    """Topics, group and HDFS root of a test's own, with a session as short as the broker allows."""
    settings = own_topics(cluster, partitions, **sink)
    kafka = settings.kafka.model_copy(update={"properties": SESSION | settings.kafka.properties})
    found = Landing(settings.model_copy(update={"kafka": kafka}))
    publish_schema(found.settings)
    return found


def with_sink(settings: Settings, **changes: Any) -> Settings:
    """The same settings, but for these of the sink."""
    return settings.model_copy(update={"sink": settings.sink.model_copy(update=changes)})


class SinkProcess:
    """`clickstream sink`, with a fault if one is given; its log is kept beside those of the servers."""

    def __init__(self, settings: Settings, fault: Fault | None = None, **environment: str) -> None:
        mine = with_sink(settings, metrics_port=free_ports()["sink"]["metrics_port"])
        command = ["-m", "tests.support.failing_sink", fault.to_json()] if fault else ["-m", "infra.cli", "sink"]
        folder = settings.home / "logs"
        folder.mkdir(parents=True, exist_ok=True)
        self.log_file = folder / f"sink-{settings.hdfs.root[1:]}-{time.monotonic_ns()}.log"
        with self.log_file.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, *command],
                cwd=ROOT,
                env={**os.environ, **mine.to_env(), **environment},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
            )

    @property
    def failure(self) -> BaseException | None:
        """What `eventually` asks: this sink should be running."""
        code = self.process.poll()
        return AssertionError(f"the sink ended with {code}: {self.tail()}") if code is not None else None

    def tail(self) -> str:
        return self.log_file.read_text(errors="replace")[-3000:]

    def said(self, event: str) -> list[dict[str, Any]]:
        """Its log lines of this event."""
        lines = [line for line in self.log_file.read_text(errors="replace").splitlines() if line.startswith("{")]
        return [found for line in lines if (found := json.loads(line))["event"] == event]

    def last_line(self) -> str:
        """The message with which the command ended."""
        return self.log_file.read_text(errors="replace").strip().rsplit("\n", 1)[-1]

    def stopped(self) -> bool:
        """Whether it has been sent to sleep."""
        assert self.process.poll() is None, self.tail()
        return bool(psutil.Process(self.process.pid).status() == psutil.STATUS_STOPPED)

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def ended(self, seconds: float = 60.0) -> int:
        """Its exit code, once it has ended by itself."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the sink does not end: {self.tail()}") from None

    def stop(self) -> None:
        """Asks it to leave, which it must do without an error."""
        self.process.terminate()
        assert self.ended() == 0, self.tail()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@contextmanager
def sink_process(settings: Settings, fault: Fault | None = None, **environment: str) -> Iterator[SinkProcess]:
    """Killed at the end, if it is still there."""
    sink = SinkProcess(settings, fault, **environment)
    try:
        yield sink
    finally:
        sink.kill()


class Supervised:
    """Starts the sink again whenever it ends, as supervisord does; `lives` are all that were."""

    failure: BaseException | None = None

    def __init__(self, settings: Settings, **environment: str) -> None:
        self._settings, self._environment, self._stop = settings, environment, threading.Event()
        self.lives = [SinkProcess(settings, **environment)]
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def _watch(self) -> None:
        while not self._stop.wait(0.2):
            if self.lives[-1].process.poll() is not None:
                time.sleep(0.5)
                self.lives.append(SinkProcess(self._settings, **self._environment))

    def last_words(self) -> list[str]:
        """With which message each life but the last ended, and its exit code."""
        return [f"exit {life.process.returncode}: {life.last_line()[:400]}" for life in self.lives[:-1]]

    def close(self) -> None:
        self._stop.set()
        self._thread.join()


def goes_on(place: Landing, seconds: float = 90.0, worker: Worker | None = None) -> None:
    """Waits until each of its two partitions has a few files more."""
    before = [len(place.files(place.layout, partition)) for partition in (0, 1)]
    eventually(lambda: all(len(place.files(place.layout, p)) > before[p] + 2 for p in (0, 1)), seconds, worker)


@contextmanager
def supervised(settings: Settings, **environment: str) -> Iterator[Supervised]:
    """Ends politely; what does not is killed, and fails the test."""
    watched = Supervised(settings, **environment)
    try:
        yield watched
    except BaseException:
        watched.close()
        print(f"\n{watched.last_words()}\n{watched.lives[-1].tail()}")
        watched.lives[-1].kill()
        raise
    watched.close()
    try:
        watched.lives[-1].stop()
    finally:
        watched.lives[-1].kill()


def stop_all(sinks: list[SinkProcess]) -> None:
    """Politely, side by side."""
    for sink in sinks:
        sink.signal(signal.SIGTERM)
    assert [sink.ended() for sink in sinks] == [0] * len(sinks), [sink.tail() for sink in sinks]


class Load:
    """Events for all partitions until `stop`; `sent` are those that Kafka has, once it was stopped."""

    def __init__(self, settings: Settings, partitions: int, per_second: int = 400) -> None:
        self._partitions, self._pause = partitions, partitions / per_second
        self._stop = threading.Event()
        self._failed: list[Any] = []
        self.sent: Sent = {partition: [] for partition in range(partitions)}
        self._topic = settings.kafka.topic
        # Idempotent, with patience: a broker that is away for a while makes no hole and no double.
        self._producer = Producer(
            {
                "bootstrap.servers": settings.kafka.address,
                "enable.idempotence": True,
                "message.timeout.ms": 120_000,
                "linger.ms": 20,
                "log_level": 2,  # a broker that is away is told once a second and connection
            }
        )
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.wait(self._pause):
            for partition, ids in self.sent.items():
                id_ = f"{partition}-{len(ids)}"
                self._producer.produce(self._topic, event(id_), partition=partition, on_delivery=self._delivered)
                ids.append(id_)
            self._producer.poll(0)

    def _delivered(self, error: Any, _: Any) -> None:
        if error:
            self._failed.append(error)

    def stop(self) -> Sent:
        self._stop.set()
        self._thread.join()
        assert (self._producer.flush(120), self._failed) == (0, [])
        return self.sent


@contextmanager
def load(settings: Settings, partitions: int, per_second: int = 400) -> Iterator[Load]:
    running = Load(settings, partitions, per_second)
    try:
        yield running
    finally:
        running.stop()


def landed(place: Landing, name: str, seconds: float = 90.0, worker: Any = None) -> None:
    """Waits until all that is in Kafka now lies on HDFS."""
    cut = place.cut(name)
    earlier = [one for one in cuts.all_cuts(place.fs, place.layout) if one.number < cut.number]
    for one in [*earlier, cut]:
        eventually(lambda one=one: ledger.current(place.fs, place.layout, one).landed_complete, seconds, worker)  # type: ignore[misc]
