"""The sink's consumer: runs of records, ends, watermarks."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby, repeat
from operator import is_, itemgetter
from typing import Any

import structlog
from confluent_kafka import (
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed

from infra.settings import Settings
from storage.errors import LogError
from storage.sink.ownership import Partition
from storage.sink.writer import Records

log = structlog.get_logger()

Listener = Callable[[list[Partition]], None]
TIMEOUT = 15.0  # seconds for Kafka to answer


@dataclass(frozen=True, slots=True)
class Run:
    """Consecutive records of one partition, in Kafka's order."""

    partition: Partition
    records: Records


@dataclass(frozen=True, slots=True)
class End:
    """The end of a partition: `offset` is the next that Kafka will assign."""

    partition: Partition
    offset: int


@dataclass(frozen=True, slots=True)
class OutOfRange:
    """Kafka does not have the offset that was to be read next: retention has deleted it, or the log was truncated."""

    partition: Partition


PollResult = Run | End | OutOfRange


def config(settings: Settings, group: str) -> dict[str, Any]:
    """Configuration of every consumer of storage; `settings.kafka.properties` override it."""
    return {
        "bootstrap.servers": settings.kafka.address,
        "group.id": group,
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "auto.offset.reset": "error",
        "enable.partition.eof": True,
        "isolation.level": "read_committed",
        # Four times the throughput of the defaults; and bounded, since what is fetched ahead counts as memory too.
        "fetch.queue.backoff.ms": 5,
        "queued.max.messages.kbytes": 32_768,
        # A member killed with -9 holds its partitions until its session ends.
        "session.timeout.ms": 10_000,
        "heartbeat.interval.ms": 100,  # a member learns by its heartbeat that the group rebalances
        "topic.metadata.refresh.interval.ms": 10_000,  # a topic may grow
        "partition.assignment.strategy": "cooperative-sticky",
        "logger": _Log(),
        **settings.kafka.properties,
    }


class SinkConsumer:
    """A consumer in the sink's group. It reads from the offsets given to `assign`, never from committed ones."""

    def __init__(
        self, settings: Settings, topics: list[str], assigned: Listener, revoked: Listener, lost: Listener
    ) -> None:
        self._settings = settings
        self._lows: dict[Partition, int] = {}
        member = {"group.instance.id": settings.sink.instance} if settings.sink.instance else {}
        self._consumer = Consumer(config(settings, settings.sink.group) | member)

        def listener(listen: Listener) -> Callable[[Consumer, list[TopicPartition]], None]:
            return lambda _, partitions: listen([(tp.topic, tp.partition) for tp in partitions])

        self._consumer.subscribe(
            topics, on_assign=listener(assigned), on_revoke=listener(revoked), on_lost=listener(lost)
        )

    def poll(self, timeout: float, most: int = 1_000) -> list[PollResult]:
        """Records and ends, in order within each partition. Listeners are only called from here and from `close`.

        At most `most` messages, few enough to stay in a core's cache until they are in a file.
        """
        self._lows.clear()
        messages: list[Any] = self._consumer.consume(most, timeout)
        results: list[PollResult | None] = []
        at = 0
        for partition, are_records, count in _runs(messages):
            some = messages[at : at + count]
            at += count
            results += [Run(partition, _records(some))] if are_records else map(_result, some)
        return [result for result in results if result is not None]

    def assign(self, offsets: Mapping[Partition, int]) -> None:
        """Reads these partitions from these offsets on."""
        self._consumer.incremental_assign([TopicPartition(*p, offset) for p, offset in offsets.items()])

    def unassign(self, partitions: Iterable[Partition]) -> None:
        self._consumer.incremental_unassign([TopicPartition(*p) for p in partitions])

    def seek(self, partition: Partition, offset: int) -> None:
        self._consumer.seek(TopicPartition(*partition, offset))

    def pause(self, partition: Partition) -> None:
        self._consumer.pause([TopicPartition(*partition)])

    def resume(self, partition: Partition) -> None:
        self._consumer.resume([TopicPartition(*partition)])

    def watermarks(self, partition: Partition) -> tuple[int, int]:
        """(first offset that Kafka still has, next offset). Raises LogError if Kafka does not answer."""
        return watermarks_of(self._consumer, TopicPartition(*partition))

    def low_watermark(self, partition: Partition) -> int:
        """The first offset that Kafka still has; asked once per poll: what is true after a fetch was true before it."""
        if partition not in self._lows:
            self._lows[partition] = self.watermarks(partition)[0]
        return self._lows[partition]

    @cached_property
    def _admin(self) -> AdminClient:
        own: dict[str, Any] = {"bootstrap.servers": self._settings.kafka.address, "logger": _Log()}
        return AdminClient(own | self._settings.kafka.properties)

    def topic_id(self, topic: str) -> str:
        """Kafka's id of the topic, which another topic of the same name would not have.

        Raises LogError if no broker answers within 15 s.
        """
        try:
            return self._described_id(topic)
        except KafkaException as error:
            raise LogError(f"Kafka does not say which topic {topic} is: {error}") from error

    @retry(
        retry=retry_if_exception_type(KafkaException),
        stop=stop_after_delay(TIMEOUT),
        wait=wait_fixed(0.5),
        reraise=True,
    )
    def _described_id(self, topic: str) -> str:
        asked = self._admin.describe_topics(TopicCollection([topic]), request_timeout=TIMEOUT)
        return str(asked[topic].result().topic_id)

    def high(self, partition: Partition) -> int:
        """The next offset, as of the last fetch; -1001 before the first."""
        return self._consumer.get_watermark_offsets(TopicPartition(*partition), cached=True)[1]

    def commit(self, ends: Mapping[Partition, int], wait: bool = False) -> None:
        """Commits end offsets of files, for lag tools only: a failure is logged and ignored."""
        if not ends:
            return
        try:
            offsets = [TopicPartition(*p, end) for p, end in ends.items()]
            if wait:
                self._consumer.commit(offsets=offsets, asynchronous=False)
            else:
                self._consumer.commit(offsets=offsets, asynchronous=True)
        except KafkaException as error:
            log.info("commit_hint_failed", error=str(error))

    def close(self) -> None:
        """Leaves the group; `revoked` is called for what is still assigned.

        Partitions are unassigned before the client is closed: a pending assignment makes librdkafka wait for ever (its
        issue 4884). Not so for a static member, which keeps its partitions.
        """
        try:
            if not self._settings.sink.instance:
                self._consumer.unsubscribe()
                deadline = time.monotonic() + TIMEOUT
                while self._consumer.consume(1_000, 0.05) or self._consumer.assignment():
                    if time.monotonic() > deadline:
                        break
        finally:
            self._consumer.close()


def _runs(messages: list[Any]) -> Iterable[tuple[Partition, bool, int]]:
    """Neighbours of one kind: their partition, whether they are records, and how many. Mostly that is all of them."""
    topics: list[Any] = list(map(Message.topic, messages))
    numbers: list[Any] = list(map(Message.partition, messages))
    count = len(messages)
    of_one = count and count == topics.count(topics[0]) == numbers.count(numbers[0])
    if of_one and not any(map(Message.error, messages)):
        return [((topics[0], numbers[0]), True, count)]
    kinds = zip(topics, numbers, map(is_, map(Message.error, messages), repeat(None)), strict=True)
    return [((topic, number), are, sum(1 for _ in run)) for (topic, number, are), run in groupby(kinds)]


def _records(messages: list[Any]) -> Records:
    """Messages as columns, each made by one loop in C."""
    offsets: Any = list(map(Message.offset, messages))  # never None in a record, though typed so
    times = list(map(itemgetter(1), map(Message.timestamp, messages)))
    return Records(offsets, times, _Keys(messages), list(map(Message.value, messages)))


class _Keys(Sequence[bytes | None]):
    """Keys that are read from the messages when needed, which for unchecked Avro they never are."""

    def __init__(self, messages: Sequence[Any]) -> None:
        self._messages = messages

    def __len__(self) -> int:
        return len(self._messages)

    def __getitem__(self, at: Any) -> Any:
        return _Keys(self._messages[at]) if isinstance(at, slice) else self._messages[at].key()

    def __iter__(self) -> Iterator[bytes | None]:
        return map(Message.key, self._messages)


def _result(message: Message) -> End | OutOfRange | None:
    """The result that an error among the messages stands for. Raises LogError for errors that do not pass."""
    error = message.error()
    assert error is not None
    code = error.code()
    partition: Any = (message.topic(), message.partition())
    if code == KafkaError._PARTITION_EOF:
        return End(partition, message.offset() or 0)
    if code in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
        return OutOfRange(partition)
    if error.fatal() or code in (
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError._AUTHENTICATION,
    ):
        raise LogError(f"Kafka: {partition[0]}: {error.str()}")
    log.warning("kafka_trouble", error=error.str(), topic=partition[0])  # librdkafka goes on trying
    return None


def watermarks_of(consumer: Consumer, partition: TopicPartition) -> tuple[int, int]:
    """(first offset that Kafka still has, next offset). Raises LogError if Kafka does not answer."""
    try:
        low, high = consumer.get_watermark_offsets(partition, timeout=TIMEOUT)
    except KafkaException as error:
        raise LogError(f"Kafka does not say which offsets {partition.topic} has: {error}") from error
    return low, high


class _Log:
    """Logs librdkafka's lines as ours."""

    def log(self, level: int, text: str, *arguments: Any) -> None:
        log.info("librdkafka", text=text % arguments if arguments else text)
