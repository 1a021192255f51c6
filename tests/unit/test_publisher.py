"""The publisher against a broker that comes and goes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import KafkaError

from infra.settings import Settings
from infra.settings.collector import Collector
from infra.settings.servers import Kafka
from ingest.delivery.publisher import KafkaPublisher
from ingest.delivery.record import Record
from ingest.errors import SpoolFull
from ingest.event import codec
from tests.fakes import FakeProducer


class Rig:
    """A publisher with its broker."""

    def __init__(self, home: Path, spool_max_bytes: int = 1024**2, drain_interval: float = 0.01) -> None:
        self.log: list[Record] = []
        self.producer = FakeProducer(self.log)
        self.config: dict[str, Any] = {}
        self.made = 0
        self.settings = Settings(
            home=home,
            kafka=Kafka(properties={"acks": "0", "security.protocol": "SSL"}),
            collector=Collector(spool_max_bytes=spool_max_bytes, ack_timeout_seconds=2),
        )
        self.publisher = KafkaPublisher(self.settings, self._make, drain_interval)

    def _make(self, config: dict[str, Any]) -> FakeProducer:
        self.config = config
        self.made += 1
        return self.producer

    def values(self) -> list[bytes]:
        return [record.value for record in self.log if record.topic == "clicks"]


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path)
    yield rig
    rig.publisher.close()


def records(*names: str) -> list[Record]:
    return [Record("clicks", b"v1", name.encode()) for name in names]


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline, "did not happen in 5 s"
        time.sleep(0.005)


def test_published_records_are_in_kafka_in_order(rig: Rig) -> None:
    rig.publisher.publish(records("a", "b"))
    rig.publisher.publish(records("c"))
    assert rig.values() == [b"a", b"b", b"c"]
    assert rig.publisher.state().spooled == 0


def test_the_schema_is_in_kafka_before_the_first_event_and_once(rig: Rig) -> None:
    rig.publisher.publish(records("a"))
    rig.publisher.publish(records("b"))
    assert [record.topic for record in rig.log] == ["clicks.schemas", "clicks", "clicks"]
    assert rig.log[0].key == codec.FINGERPRINT.hex().encode()
    assert codec.schema_fingerprint(__import__("json").loads(rig.log[0].value)) == codec.FINGERPRINT


def test_while_kafka_is_away_records_go_to_the_disk_and_follow_later(rig: Rig) -> None:
    rig.producer.down = True
    rig.publisher.publish(records("a"))
    rig.publisher.publish(records("b"))
    assert rig.log == []
    state = rig.publisher.state()
    assert (state.kafka_up, state.spooled, state.accepting) == (False, 3, True)

    rig.producer.down = False
    until(lambda: rig.publisher.state().spooled == 0 and rig.publisher.state().kafka_up)
    assert rig.values() == [b"a", b"b"]
    assert rig.log[0].topic == "clicks.schemas"


def test_a_spool_left_by_a_killed_process_is_drained_by_the_next(tmp_path: Path) -> None:
    first = Rig(tmp_path)
    first.producer.down = True
    first.publisher.publish(records("a"))
    first.publisher.close()
    second = Rig(tmp_path)
    until(lambda: second.values() == [b"a"])
    second.publisher.close()


def test_neither_kafka_nor_disk_is_an_error_and_not_accepting(tmp_path: Path) -> None:
    rig = Rig(tmp_path, spool_max_bytes=0)
    rig.producer.down = True
    with pytest.raises(SpoolFull):
        rig.publisher.publish(records("a"))
    assert not rig.publisher.state().accepting

    rig.producer.down = False
    until(lambda: rig.publisher.state().accepting)
    rig.publisher.publish(records("a"))
    assert rig.values() == [b"a"]
    rig.publisher.close()


def test_a_record_that_kafka_never_takes_is_kept_on_disk_beside_the_spool(rig: Rig) -> None:
    rig.producer.too_large = 10_000
    rig.publisher.publish(records("a", "x" * 20_000))
    until(lambda: rig.publisher.state().spooled == 0)
    assert rig.values() == [b"a"]
    assert [(len(record.value)) for record, _ in rig.publisher._spool.refused()] == [20_000]


def test_without_room_in_the_spool_nothing_is_sent_to_kafka(tmp_path: Path) -> None:
    rig = Rig(tmp_path, spool_max_bytes=200_000, drain_interval=60)
    rig.publisher.publish(records("a"))
    rig.publisher._spool.append(records(*["x" * 1000] * 100), promised=True)  # another process was in flight
    rig.publisher._look()
    assert rig.publisher.state().kafka_up and not rig.publisher.state().accepting
    with pytest.raises(SpoolFull):
        rig.publisher.publish(records("b"))
    assert rig.values() == [b"a"]
    rig.publisher._drain()
    rig.publisher._look()
    rig.publisher.publish(records("b"))
    assert rig.values()[-1] == b"b"
    rig.publisher.close()


def test_of_two_processes_one_drains(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    with rig.publisher._spool.draining() as mine:
        assert mine
        other = Rig(tmp_path)
        other.producer.down = True
        other.publisher.publish(records("a"))
        other.producer.down = False
        until(lambda: other.publisher.state().kafka_up)
        assert other.values() == [] and other.publisher.state().spooled == 2
    until(lambda: rig.values() + other.values() == [b"a"])
    other.publisher.close()
    rig.publisher.close()


def test_a_spooled_record_that_kafka_never_takes_does_not_block_the_rest(rig: Rig) -> None:
    rig.producer.too_large = 10_000
    rig.producer.down = True
    rig.publisher.publish(records("a", "x" * 20_000, "b"))
    rig.producer.down = False
    until(lambda: rig.publisher.state().spooled == 0)
    assert rig.values() == [b"a", b"b"]
    assert [(len(record.value)) for record, _ in rig.publisher._spool.refused()] == [20_000]


def test_a_fatal_error_gets_a_new_producer(rig: Rig) -> None:
    from confluent_kafka import KafkaError

    rig.config["error_cb"](KafkaError(KafkaError._FATAL, "fenced", fatal=True))
    until(lambda: rig.made == 2 and rig.publisher.state().kafka_up)
    rig.publisher.publish(records("a"))
    assert rig.values() == [b"a"]


def test_properties_pass_through_but_durability_is_not_theirs(rig: Rig) -> None:
    assert rig.config["security.protocol"] == "SSL"
    assert rig.config["acks"] == "all"
    assert rig.config["enable.idempotence"] is True
    assert rig.config["partitioner"] == "murmur2_random"
    assert rig.config["delivery.timeout.ms"] == 2000


def test_the_configuration_is_one_that_librdkafka_takes(rig: Rig) -> None:
    import confluent_kafka

    plain = {name: value for name, value in rig.config.items() if name not in ("security.protocol",)}
    confluent_kafka.Producer(plain).flush(0)


def test_what_waits_goes_to_the_spool_at_once_when_kafka_is_found_away(tmp_path: Path) -> None:
    rig = Rig(tmp_path, drain_interval=60)
    rig.publisher.publish(records("a"))
    rig.producer.hangs = True
    with ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(rig.publisher.publish, records(name)) for name in ("b", "c")]
        until(lambda: len(rig.publisher._waiting) == 2)
        rig.config["error_cb"](KafkaError(KafkaError._ALL_BROKERS_DOWN))
        assert [publication.result(1) for publication in waiting] == ["spool", "spool"]
    assert rig.publisher.publish(records("d")) == "spool"
    assert rig.publisher.state().spooled == 3
    rig.publisher.close()
