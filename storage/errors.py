"""What can go wrong between Kafka and HDFS.

StorageError            HDFS could not be reached, or refused; names the path
├── Unreachable         HDFS does not answer, or not yet; names the setting
└── Hung                it does not answer at all: the process has to end
Fenced                  another owner has taken the partition: drop what is buffered, stay out
LogError                Kafka's log and what has been landed contradict each other: loud, never a silent reset
ContainerError          bytes that are no container of ours
BatchError              a cut that can't be, or isn't there
GateClosed              a batch, or what was learnt of it, may not go on
"""

from __future__ import annotations

from infra.errors import ClickstreamError


class StorageError(ClickstreamError):
    """An operation on `path` failed for `reason`."""

    def __init__(self, path: str, reason: str) -> None:
        self.path, self.reason = path, reason
        super().__init__(f"HDFS: {path}: {reason}")


class Unreachable(StorageError):  # noqa: N818 - the domain's own term
    """No NameNode answers at `address`, or none that works yet (it starts, is in safe mode, or on standby), or a
    connection to it or to a DataNode broke."""

    may_pass = True

    def __init__(self, path: str, address: str, reason: str) -> None:
        super().__init__(path, f"HDFS at {address} (CLICKSTREAM_HDFS__URL) does not answer: {reason}")
        self.address = address


class Hung(StorageError):  # noqa: N818
    """A publish has not ended in time, and may never: its thread can't be ended, so its process must be."""


class Fenced(ClickstreamError):  # noqa: N818
    """This owner's epoch of the partition is over, or never began."""

    def __init__(self, topic: str, partition: int, number: int) -> None:
        self.topic, self.partition, self.number = topic, partition, number
        super().__init__(f"{topic} p={partition}: epoch {number} is not ours any more: another owner is at work")


class LogError(ClickstreamError):
    """What lies on HDFS reaches beyond the end of Kafka's log, or Kafka refuses to read."""


class ContainerError(ClickstreamError):
    """A file's header does not say what it must; `truncated` when more of its beginning is needed."""

    def __init__(self, reason: str, truncated: bool = False) -> None:
        self.truncated = truncated
        super().__init__(reason)


class BatchError(ClickstreamError):
    """No such cut, a name that can't be one, or offsets that went backwards."""


class GateClosed(ClickstreamError):  # noqa: N818
    """`what`, a batch or a version, does not pass for `reason`; asking again changes nothing."""

    def __init__(self, what: str, reason: str) -> None:
        self.what, self.reason = what, reason
        super().__init__(f"{what}: {reason}")
