"""Kafka as the sink sees it: runs of records, ends, watermarks. The only module of storage with confluent_kafka."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby, repeat
from operator import is_, itemgetter
from typing import Any

import structlog
from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed

from infra.settings import Settings
from infra.topics import unreachable
from storage.errors import LogError
from storage.partition import Records
from storage.schemas import Registry

log = structlog.get_logger()

Partition = tuple[str, int]  # topic, number
Listener = Callable[[list[Partition]], None]
_TIMEOUT = 15.0


@dataclass(frozen=True, slots=True)
class Run:
    """Consecutive records of one partition, as Kafka has them."""

    partition: Partition
    records: Records


@dataclass(frozen=True, slots=True)
class End:
    """Kafka has nothing more before `offset`, which is its next."""

    partition: Partition
    offset: int


@dataclass(frozen=True, slots=True)
class OutOfRange:
    """Retention, or something worse, has taken the offset that was to be read next."""

    partition: Partition


Event = Run | End | OutOfRange


def config(settings: Settings, group: str) -> dict[str, Any]:
    """What every consumer here needs; `settings.kafka.properties` override."""
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
        "heartbeat.interval.ms": 100,  # by which a member learns that another has come: and waits for its share
        "topic.metadata.refresh.interval.ms": 10_000,  # a topic may grow
        "partition.assignment.strategy": "cooperative-sticky",
        "logger": _Log(),
        **settings.kafka.properties,
    }


class Source:
    """A member of the sink's group. Where to read from is said by `assign`, never by Kafka's committed offsets."""

    def __init__(
        self, settings: Settings, topics: list[str], assigned: Listener, revoked: Listener, lost: Listener
    ) -> None:
        self._settings = settings
        member = {"group.instance.id": settings.sink.instance} if settings.sink.instance else {}
        self._consumer = Consumer(config(settings, settings.sink.group) | member)

        def listener(listen: Listener) -> Callable[[Consumer, list[TopicPartition]], None]:
            return lambda _, partitions: listen([(tp.topic, tp.partition) for tp in partitions])

        self._consumer.subscribe(
            topics, on_assign=listener(assigned), on_revoke=listener(revoked), on_lost=listener(lost)
        )

    def poll(self, timeout: float, most: int = 1_000) -> list[Event]:
        """What has come, in order within each partition. Listeners are called from here and from `close` only.

        Few at a time, so that a core's cache still has them when they are put into a file.
        """
        messages: list[Any] = self._consumer.consume(most, timeout)
        events: list[Event | None] = []
        at = 0
        for partition, are_records, count in _runs(messages):
            some = messages[at : at + count]
            at += count
            events += [Run(partition, _records(some))] if are_records else map(_event, some)
        return [event for event in events if event is not None]

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
        """The first offset that Kafka still has, and the one after its last. Raises LogError when it doesn't say."""
        return _watermarks(self._consumer, TopicPartition(*partition))

    @cached_property
    def _admin(self) -> AdminClient:
        own: dict[str, Any] = {"bootstrap.servers": self._settings.kafka.address, "logger": _Log()}
        return AdminClient(own | self._settings.kafka.properties)

    def topic_id(self, topic: str) -> str:
        """Kafka's id of the topic, which another of the same name would not have.

        Raises LogError; a broker that is on its way back is given 15 s.
        """
        try:
            return self._described_id(topic)
        except KafkaException as error:
            raise LogError(f"Kafka does not say which topic {topic} is: {error}") from error

    @retry(
        retry=retry_if_exception_type(KafkaException),
        stop=stop_after_delay(_TIMEOUT),
        wait=wait_fixed(0.5),
        reraise=True,
    )
    def _described_id(self, topic: str) -> str:
        asked = self._admin.describe_topics(TopicCollection([topic]), request_timeout=_TIMEOUT)
        return str(asked[topic].result().topic_id)

    def high(self, partition: Partition) -> int:
        """The offset after the last, as of the last fetch; -1001 before there was one."""
        return self._consumer.get_watermark_offsets(TopicPartition(*partition), cached=True)[1]

    def commit(self, ends: Mapping[Partition, int], wait: bool = False) -> None:
        """Tells Kafka how far files reach: a hint for lag tools, so its failure is only logged."""
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

        Partitions are given back before the client ends: an assignment that is still to be served when it ends makes
        librdkafka wait for ever (its issue 4884). Not so for a static member, whose partitions stay its own.
        """
        try:
            if not self._settings.sink.instance:
                self._consumer.unsubscribe()
                deadline = time.monotonic() + _TIMEOUT
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
    """By column, each by one loop of the interpreter's own."""
    offsets: Any = list(map(Message.offset, messages))  # never None in a record, though typed so
    times = list(map(itemgetter(1), map(Message.timestamp, messages)))
    return Records(offsets, times, _Keys(messages), list(map(Message.value, messages)))


class _Keys(Sequence[bytes | None]):
    """Read from the messages when someone asks: of an Avro file's records nobody does."""

    def __init__(self, messages: Sequence[Any]) -> None:
        self._messages = messages

    def __len__(self) -> int:
        return len(self._messages)

    def __getitem__(self, at: Any) -> Any:
        return _Keys(self._messages[at]) if isinstance(at, slice) else self._messages[at].key()

    def __iter__(self) -> Iterator[bytes | None]:
        return map(Message.key, self._messages)


def _event(message: Message) -> End | OutOfRange | None:
    """What an error among the messages means; raises LogError for what a new start can't wait out."""
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


def _watermarks(consumer: Consumer, partition: TopicPartition) -> tuple[int, int]:
    try:
        low, high = consumer.get_watermark_offsets(partition, timeout=_TIMEOUT)
    except KafkaException as error:
        raise LogError(f"Kafka does not say which offsets {partition.topic} has: {error}") from error
    return low, high


class SchemaTopic:
    """Reads `clicks.schemas` into a registry, from its beginning, as often as asked."""

    def __init__(self, settings: Settings, registry: Registry) -> None:
        self._settings, self._topic, self._registry = settings, settings.kafka.schemas_topic, registry
        self._consumer = Consumer(config(settings, f"{settings.sink.group}-schemas"))
        self._next: dict[int, int] = {}

    def refresh(self) -> None:
        """Learns what has been published since. Raises LogError when the topic can't be read within 15 s."""
        if not self._next:
            self._next = dict.fromkeys(self._partitions(), 0)
            self._consumer.assign([TopicPartition(self._topic, p, OFFSET_BEGINNING) for p in self._next])
        ends = {p: _watermarks(self._consumer, TopicPartition(self._topic, p))[1] for p in self._next}
        deadline = time.monotonic() + _TIMEOUT
        while any(self._next[p] < end for p, end in ends.items()):
            if time.monotonic() > deadline:
                raise LogError(f"Kafka: {self._topic} can't be read to its end {ends}, only to {self._next}")
            message = self._consumer.poll(0.2)
            if message is not None:
                self._learn(message)

    def _learn(self, message: Message) -> None:
        error = message.error()
        if error is not None:
            if error.code() == KafkaError._PARTITION_EOF:
                self._next[message.partition() or 0] = message.offset() or 0
            elif error.fatal() or error.code() == KafkaError._AUTO_OFFSET_RESET:
                raise LogError(f"Kafka: {self._topic}: {error.str()}")
            return
        self._next[message.partition() or 0] = (message.offset() or 0) + 1
        try:
            self._registry.add(json.loads(message.value() or b""))
        except Exception as problem:  # fastavro has no one error for a schema that is none
            log.error("not_a_schema", topic=self._topic, offset=message.offset(), error=repr(problem))

    def _partitions(self) -> list[int]:
        try:
            topic = self._consumer.list_topics(self._topic, timeout=_TIMEOUT).topics[self._topic]
        except KafkaException as error:
            raise unreachable(self._settings, error) from error
        if topic.error is not None or not topic.partitions:
            raise LogError(f"Kafka: {self._topic}: {topic.error}")
        return sorted(topic.partitions)

    def close(self) -> None:
        self._consumer.close()


def append(settings: Settings, topic: str, values: Sequence[tuple[bytes | None, bytes]]) -> None:
    """Appends (key, value) records to a topic and waits until all are acknowledged. Raises LogError."""
    from ingest.publisher import producer_config  # the sink appends nothing

    producer = Producer(producer_config(settings) | {"delivery.timeout.ms": int(_TIMEOUT * 1000)})
    failed: list[str] = []
    for key, value in values:
        while True:
            try:
                producer.produce(
                    topic, value, key, on_delivery=lambda error, _: failed.append(str(error)) if error else None
                )
                break
            except BufferError:
                producer.poll(0.1)
    if producer.flush(2 * _TIMEOUT) or failed:
        raise LogError(f"Kafka: {topic} has not taken all records: {failed[0] if failed else 'no answer'}")


class _Log:
    """librdkafka's own lines, as ours."""

    def log(self, level: int, text: str, *arguments: Any) -> None:
        log.info("librdkafka", text=text % arguments if arguments else text)
