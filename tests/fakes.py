"""Fakes at the I/O boundary, shared by all tests. Each behaves as the real thing does where a test looks."""

from __future__ import annotations

import io
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from confluent_kafka import KafkaError, KafkaException

from infra.errors import ServiceError
from ingest.delivery.publisher import PublisherState, Way
from ingest.delivery.record import Record
from ingest.errors import PublishError
from storage.hdfs import Entry, Hdfs


class FakeExports:
    """The web app's ExportReader over exports in memory; `failure`, when set, is what every call raises."""

    def __init__(self, exports: Mapping[str, Any] | None = None, current: str | None = None) -> None:
        self.exports: dict[str, Any] = dict(exports or {})
        self.current = current
        self.failure: Exception | None = None
        self.loads: list[str] = []

    def current_version(self) -> str | None:
        self._fail()
        return self.current

    def load(self, version: str) -> Any:
        self._fail()
        self.loads.append(version)
        return self.exports[version]

    def publish(self, version: str, export: Any) -> None:
        self.exports[version] = export
        self.current = version

    def _fail(self) -> None:
        if self.failure:
            raise self.failure


class FakePublisher:
    """The collector's Publisher in memory; `failure`, when set, is what publish raises."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.failure: PublishError | None = None
        self.current = PublisherState(kafka_up=True, spooled=0, accepting=True)

    def publish(self, records: Sequence[Record]) -> Way:
        if self.failure is not None:
            raise self.failure
        self.records += records
        return "kafka"

    def state(self) -> PublisherState:
        return self.current

    def close(self) -> None:
        pass

    def on(self, topic: str) -> list[bytes]:
        """The values published to a topic."""
        return [record.value for record in self.records if record.topic == topic]


class FakeProducer:
    """librdkafka's producer against a broker in memory.

    `down` lets every record time out, `hangs` lets it wait for ever, `too_large` bounds them.
    """

    def __init__(self, log: list[Record]) -> None:
        self.log = log
        self.down = self.hangs = False
        self.too_large = 1_000_000
        self._reports: deque[Callable[[], None]] = deque()

    def produce(self, topic: str, value: bytes, key: bytes | None, on_delivery: Callable[[Any, Any], None]) -> None:
        record = Record(topic, key, value)
        code = None
        if self.hangs:
            return
        if self.down:
            code = KafkaError._MSG_TIMED_OUT
        elif len(value) > self.too_large:
            code = KafkaError.MSG_SIZE_TOO_LARGE
        else:
            self.log.append(record)
        error = None if code is None else KafkaError(code)
        self._reports.append(lambda: on_delivery(error, FakeMessage(record)))

    def poll(self, timeout: float) -> int:
        if not self._reports:
            time.sleep(0.001)
        count = len(self._reports)
        for _ in range(count):
            self._reports.popleft()()
        return count

    def flush(self, timeout: float) -> int:
        return self.poll(timeout)

    def purge(self) -> None:
        pass

    def __len__(self) -> int:
        return len(self._reports)

    def list_topics(self, timeout: float) -> None:
        if self.down:
            raise KafkaException(KafkaError(KafkaError._TRANSPORT))


class FakeMessage:
    """What a delivery report tells of its record."""

    def __init__(self, record: Record) -> None:
        self._record = record

    def topic(self) -> str:
        return self._record.topic

    def key(self) -> bytes | None:
        return self._record.key

    def value(self) -> bytes:
        return self._record.value


class FakeHdfs(Hdfs):
    """HDFS in memory: `files` are path -> (content, time of change in ms); a folder is there as long as a file is, or
    when it was made. `before(verb, path)` is called before each step that changes something and may raise."""

    def __init__(self) -> None:
        self.files: dict[str, tuple[bytes, int]] = {}
        self.folders: set[str] = set()
        self.children: dict[str, set[str]] = {}
        self.now = 1_000
        self.reads: list[str] = []
        self.before: Callable[[str, str], None] = lambda verb, path: None
        self._lock = threading.RLock()

    def copy(self) -> FakeHdfs:
        """Another one with the same files."""
        other = FakeHdfs()
        other.files, other.folders, other.now = dict(self.files), set(self.folders), self.now
        other.children = {folder: set(names) for folder, names in self.children.items()}
        return other

    def list(self, path: str) -> list[Entry]:
        with self._lock:
            if path not in self.children and path not in self.folders:
                raise FileNotFoundError(path)
            return [self._entry(path, name) for name in sorted(self.children.get(path, ()))]

    def exists(self, path: str) -> bool:
        return path in self.files or path in self.folders or path in self.children

    def read(self, path: str) -> bytes:
        self.reads.append(path)
        if path not in self.files:
            raise FileNotFoundError(path)
        return self.files[path][0]

    def read_head(self, path: str, size: int) -> bytes:
        return self.read(path)[:size]

    def read_tail(self, path: str, size: int) -> bytes:
        return self.read(path)[-size:]

    def open(self, path: str) -> BinaryIO:
        return io.BytesIO(self.read(path))

    def count_files(self, path: str) -> int:
        with self._lock:
            return sum(file.startswith(f"{path}/") for file in self.files)

    def create(self, path: str, chunks: Iterable[bytes], create_parents: bool = False) -> int:
        self.before("create", path)
        with self._lock:
            if self.exists(path):
                raise FileExistsError(path)
            if not create_parents and not self.exists(path.rsplit("/", 1)[0]):
                raise FileNotFoundError(path)
        data = b"".join(chunks)
        with self._lock:
            self._put(path, data, self.now)
        return len(data)

    def rename(self, source: str, target: str, overwrite: bool = False) -> None:
        """Of files alone."""
        self.before("rename", source)
        with self._lock:
            if source not in self.files:
                raise FileNotFoundError(source)
            if self.exists(target) and not overwrite:
                raise FileExistsError(target)
            data, changed = self.files[source]
            self._put(target, data, changed)
            self._remove(source)

    def mkdirs(self, path: str) -> None:
        with self._lock:
            self.folders.add(path)
            self._link(path)

    def delete(self, path: str, recursive: bool = False) -> bool:
        self.before("delete", path)
        with self._lock:
            gone = [f for f in self.files if f == path or (recursive and f.startswith(f"{path}/"))]
            for file in gone:
                self._remove(file)
        return bool(gone)

    def _entry(self, folder: str, name: str) -> Entry:
        path = f"{folder}/{name}"
        data, changed = self.files.get(path, (b"", 0))
        return Entry(name, path, len(data), path not in self.files, changed)

    def _put(self, path: str, data: bytes, changed: int) -> None:
        self.files[path] = data, changed
        self._link(path)

    def _link(self, path: str) -> None:
        while path:
            folder, name = path.rsplit("/", 1)
            self.children.setdefault(folder, set()).add(name)
            path = folder

    def _remove(self, path: str) -> None:
        del self.files[path]
        folder, name = path.rsplit("/", 1)
        self.children[folder].discard(name)


class FakeShell:
    """Hadoop's `fs` commands on folders in memory; `rival`, when set, takes a name just before it is moved to."""

    def __init__(self, there: Iterable[str] = (), rival: bool = False) -> None:
        self.there, self.rival, self.puts = set(there), rival, 0

    def names(self, folder: str) -> set[str]:
        return {name.rsplit("/", 1)[1] for name in self.there if name.rsplit("/", 1)[0] == folder}

    def run(self, verb: str, *arguments: str) -> None:
        if verb == "-put":
            assert Path(arguments[0]).is_file()
            self.puts += 1
            self.there.add(arguments[1])
        elif verb == "-mv":
            source, target = arguments
            if self.rival:
                self.there.add(target)
            if target in self.there:
                raise ServiceError("hdfs", f"mv: `{target}': File exists")
            self.there.remove(source)
            self.there.add(target)
        elif verb == "-rm":
            self.there.remove(arguments[-1])
        else:
            assert verb == "-mkdir"


class FakeResourceManager:
    """Applications of one tag, id -> state; who is killed shows as it was `lag` times more, or for ever."""

    def __init__(self, states: Mapping[str, str], lag: float = 1) -> None:
        self.states, self.lag, self.killed = dict(states), lag, dict[str, float]()

    def applications(self, tag: str) -> list[Any]:
        from processing.runtime.yarn_lock import Application

        for id_ in self.killed:
            self.killed[id_] -= 1
            if self.killed[id_] < 0:
                self.states[id_] = "KILLED"
        return [Application(id_, state) for id_, state in self.states.items()]

    def kill(self, application: str, why: str) -> None:
        self.killed[application] = self.lag
