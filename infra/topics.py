"""Kafka's control plane through kafka-python: topics, end offsets, health. The only module of infra that imports it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any

from infra.errors import ServiceError
from infra.settings import Settings

if TYPE_CHECKING:
    from kafka import KafkaAdminClient

# librdkafka's names, which the settings use, -> kafka-python's.
_PROPERTIES = {
    "security.protocol": "security_protocol",
    "sasl.mechanism": "sasl_mechanism",
    "sasl.mechanisms": "sasl_mechanism",
    "sasl.username": "sasl_plain_username",
    "sasl.password": "sasl_plain_password",
    "ssl.ca.location": "ssl_cafile",
    "ssl.certificate.location": "ssl_certfile",
    "ssl.key.location": "ssl_keyfile",
    "ssl.key.password": "ssl_password",
    "client.id": "client_id",
}


def client_config(settings: Settings) -> dict[str, Any]:
    """Options of every kafka-python client: the address, and the `kafka.properties` that kafka-python supports."""
    properties = settings.kafka.properties
    return {
        "bootstrap_servers": settings.kafka.address.split(","),
        **{_PROPERTIES[name]: value for name, value in properties.items() if name in _PROPERTIES},
    }


def unreachable(settings: Settings, error: Exception) -> ServiceError:
    """The one line for a broker that doesn't answer."""
    setting = "CLICKSTREAM_KAFKA__PORT" if settings.kafka.managed else "CLICKSTREAM_KAFKA__BOOTSTRAP_SERVERS"
    return ServiceError("kafka", f"no broker answers at {settings.kafka.address} ({setting}): {error!r}")


@contextmanager
def admin(settings: Settings, timeout_ms: int = 10_000) -> Iterator[KafkaAdminClient]:
    """An admin client. Raises ServiceError when no broker answers within the time."""
    from kafka import KafkaAdminClient
    from kafka.errors import KafkaError

    client = None
    try:
        client = KafkaAdminClient(**client_config(settings), bootstrap_timeout_ms=timeout_ms)
        yield client
    except KafkaError as error:
        raise unreachable(settings, error) from error
    finally:
        if client is not None:
            client.close()


def ensure_topics(settings: Settings) -> None:
    """Creates the platform's topics where they don't exist; existing ones stay as they are."""
    from kafka.admin import NewTopic
    from kafka.errors import TopicAlreadyExistsError

    kafka = settings.kafka
    durable = {"min.insync.replicas": str(min(2, kafka.replication))}
    # The sink stores the broker's time of each record, which no client's clock can set.
    events = {
        "message.timestamp.type": "LogAppendTime",
        "retention.ms": str(kafka.retention_hours * 3_600_000),
        **durable,
    }
    wanted = [
        NewTopic(kafka.topic, kafka.partitions, kafka.replication, topic_configs=events),
        NewTopic(kafka.rejected_topic, 1, kafka.replication, topic_configs=events),
        NewTopic(kafka.schemas_topic, 1, kafka.replication, topic_configs={"cleanup.policy": "compact", **durable}),
    ]
    with admin(settings) as client:
        present = set(client.list_topics())
        missing = [topic for topic in wanted if topic.name not in present]
        if missing:
            try:
                client.create_topics(missing)
            except TopicAlreadyExistsError:
                return ensure_topics(settings)  # another process is creating them
            client.wait_for_topics([topic.name for topic in missing])


def delete_topics(settings: Settings) -> None:
    """Deletes the platform's topics and their records; ignores topics that don't exist."""
    kafka = settings.kafka
    with admin(settings) as client:
        present = set(client.list_topics())
        names = [name for name in (kafka.topic, kafka.rejected_topic, kafka.schemas_topic) if name in present]
        if names:
            client.delete_topics(names)


@contextmanager
def temporary_topics(settings: Settings) -> Iterator[None]:
    """Creates the platform's topics, and deletes them and their records at the end of the block."""
    ensure_topics(settings)
    try:
        yield
    finally:
        delete_topics(settings)


def end_offsets(settings: Settings, topic: str, moment: datetime | None = None) -> dict[int, int]:
    """End offset of each partition; with a `moment` of the past, the offset of the first record that the
    broker appended then or later. Raises ServiceError when they can't be read."""
    from kafka import TopicPartition
    from kafka.admin import OffsetSpec, OffsetTimestamp

    with admin(settings) as client:
        described = client.describe_topics([topic])
        partitions = [TopicPartition(topic, p["partition_index"]) for t in described for p in t["partitions"]]
        if not partitions:
            raise ServiceError("kafka", f"topic {topic} does not exist (CLICKSTREAM_KAFKA__TOPIC)")
        found = client.list_partition_offsets(dict.fromkeys(partitions, OffsetSpec.LATEST))
        ends = {tp.partition: at.offset for tp, at in sorted(found.items())}
        if moment is None:
            return ends
        # Read last: if nothing was appended since the moment, the end offset now is also the end offset then.
        since = OffsetTimestamp(int(moment.timestamp() * 1000))
        found = client.list_partition_offsets(dict.fromkeys(partitions, since))
        return ends | {tp.partition: at.offset for tp, at in found.items() if at.offset >= 0}


def kafka_problem(settings: Settings) -> str | None:
    """None if a broker answers, else the reason."""
    try:
        with admin(settings, timeout_ms=2_000) as client:
            client.describe_cluster()
    except ServiceError as error:
        return error.reason
    return None
