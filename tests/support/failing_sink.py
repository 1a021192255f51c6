"""`clickstream sink`, which sends itself a signal at one moment: python -m tests.support.failing_sink '<Fault, JSON>'.

The product has no hooks for that: its HDFS client and its Kafka consumer are wrapped here, in a process of their own.
"""

from __future__ import annotations

import json
import re
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal, TypeVar

from storage.hdfs import Hdfs
from storage.sink.consumer import SinkConsumer
from storage.sink.ownership import Partition

T = TypeVar("T")
Verb = Literal["list", "mkdirs", "rename", "create", "write", "hsync", "close", "commit"]
When = Literal["before", "after"]


@dataclass(frozen=True)
class Fault:
    """The `nth` call of `verb` whose subject matches `pattern`: a path, "source -> target" of a rename."""

    verb: Verb
    pattern: str
    nth: int = 1
    when: When = "before"
    signal: int = 9

    def to_json(self) -> str:
        return json.dumps(asdict(self))


class Trigger:
    """Counts calls, and sends the signal when it is time."""

    def __init__(self, fault: Fault) -> None:
        self._fault, self._calls, self._lock = fault, 0, threading.Lock()

    def around(self, verb: Verb, subject: str, call: Callable[[], T]) -> T:
        """Does the call, with the signal before or after it if it is the one."""
        when = self._when(verb, subject)
        if when == "before":
            self._strike()
        try:
            return call()
        finally:
            if when == "after":
                self._strike()

    def _strike(self) -> None:
        # To this very thread: sent to the process, another thread would take it while this one goes on for a moment.
        signal.pthread_kill(threading.get_ident(), self._fault.signal)

    def _when(self, verb: Verb, subject: str) -> When | None:
        if verb != self._fault.verb or not re.search(self._fault.pattern, subject):
            return None
        with self._lock:
            self._calls += 1
            return self._fault.when if self._calls == self._fault.nth else None


class FailingFile:
    """A file that is being written."""

    def __init__(self, file: Any, path: str, trigger: Trigger) -> None:
        self._file, self._path, self._trigger = file, path, trigger

    def __enter__(self) -> FailingFile:
        return self

    def __exit__(self, *error: Any) -> None:
        self._trigger.around("close", self._path, lambda: self._file.__exit__(*error))

    def write(self, data: bytes) -> int:
        return int(self._trigger.around("write", self._path, lambda: self._file.write(data)))

    def hsync(self) -> None:
        self._trigger.around("hsync", self._path, self._file.hsync)


class FailingClient:
    """hdfs_native's client; what is not here goes straight to it."""

    def __init__(self, client: Any, trigger: Trigger) -> None:
        self._client, self._trigger = client, trigger

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def list_status(self, path: str) -> Any:
        return self._trigger.around("list", path, lambda: list(self._client.list_status(path)))

    def mkdirs(self, path: str, permission: int, create_parent: bool) -> Any:
        return self._trigger.around(
            "mkdirs", path, lambda: self._client.mkdirs(path, permission, create_parent=create_parent)
        )

    def rename(self, source: str, target: str, overwrite: bool) -> Any:
        return self._trigger.around(
            "rename", f"{source} -> {target}", lambda: self._client.rename(source, target, overwrite)
        )

    def create(self, path: str, options: Any) -> FailingFile:
        file = self._trigger.around("create", path, lambda: self._client.create(path, options))
        return FailingFile(file, path, self._trigger)


def main(fault: Fault) -> None:
    import storage.hdfs
    from infra import cli
    from storage.sink import member

    trigger = Trigger(fault)

    class FailingHdfs(Hdfs):
        @cached_property
        def _client(self) -> Any:
            return FailingClient(super()._client, trigger)

    class FailingConsumer(SinkConsumer):
        def commit(self, ends: Mapping[Partition, int], wait: bool = False) -> None:
            if ends:
                topics = " ".join(sorted(topic for topic, _ in ends))
                trigger.around("commit", topics, lambda: super(FailingConsumer, self).commit(ends, wait))

    storage.hdfs.Hdfs = FailingHdfs  # type: ignore[misc]
    member.SinkConsumer = FailingConsumer  # type: ignore[misc]
    sys.argv = ["clickstream", "sink"]
    cli.main()


if __name__ == "__main__":
    main(Fault(**json.loads(sys.argv[1])))
