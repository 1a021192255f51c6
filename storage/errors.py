"""Errors of storage.

StorageError            an operation on HDFS failed; names the path
├── Unreachable         HDFS does not answer, or not yet; names the setting
└── Hung                a publish does not end: the process has to
Fenced                  another owner has taken the partition: drop what is buffered, publish nothing more
LogError                Kafka's log and the landed files contradict each other: an error, never a silent reset
ContainerError          bytes that are not a landed file, or a body that does not follow its schema
BatchError              an invalid cut, or one that does not exist
GateClosed              a batch or a version does not pass a gate
"""

from __future__ import annotations

from infra.errors import ClickstreamError


class StorageError(ClickstreamError):
    """An operation on `path` failed for `reason`."""

    def __init__(self, path: str, reason: str) -> None:
        self.path, self.reason = path, reason
        super().__init__(f"HDFS: {path}: {reason}")


class Unreachable(StorageError):
    """No NameNode answers at `address`, or it is starting, in safe mode or on standby; or a connection to it or to a
    DataNode broke."""

    may_pass = True

    def __init__(self, path: str, address: str, reason: str) -> None:
        super().__init__(path, f"HDFS at {address} (CLICKSTREAM_HDFS__URL) does not answer: {reason}")
        self.address = address


class Hung(StorageError):
    """A publish has not ended in time, and may never: its thread can't be stopped, so the process must end."""


class Fenced(ClickstreamError):
    """This owner's epoch of the partition has ended, or never began."""

    def __init__(self, topic: str, partition: int, number: int) -> None:
        self.topic, self.partition, self.number = topic, partition, number
        super().__init__(f"{topic} p={partition}: epoch {number} is not ours any more: another owner is at work")


class LogError(ClickstreamError):
    """Landed files reach beyond the end of Kafka's log, or Kafka refuses to read or describe a topic."""


class ContainerError(ClickstreamError):
    """A file, or a body in it, can't be read; `truncated` if more bytes of its head or tail are needed."""

    def __init__(self, reason: str, truncated: bool = False) -> None:
        self.truncated = truncated
        super().__init__(reason)


class BatchError(ClickstreamError):
    """No such cut, an invalid name, or end offsets below those of the last cut."""


class GateClosed(ClickstreamError):
    """`what`, a batch or a version, does not pass for `reason`; a retry changes nothing."""

    def __init__(self, what: str, reason: str) -> None:
        self.what, self.reason = what, reason
        super().__init__(f"{what}: {reason}")
