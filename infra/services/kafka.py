"""Kafka: one KRaft node, or the brokers that `kafka.bootstrap_servers` names."""

from __future__ import annotations

import uuid

from infra import jars, topics
from infra.jars import jvm
from infra.services.service import Service, run_once
from infra.settings import Settings


def services(settings: Settings, environment: dict[str, str]) -> list[Service]:
    """The broker."""
    kafka = settings.kafka
    finish = lambda: topics.ensure_topics(settings)  # noqa: E731
    problem = lambda: topics.kafka_problem(settings)  # noqa: E731
    if not kafka.managed:
        return [Service("kafka", problem, finish=finish)]
    conf = settings.home / "conf" / "kafka"
    options = [f"-Dlog4j2.configurationFile={conf}/log4j2.properties"]
    class_path = jars.class_path(jars.jars("kafka"))

    def format_storage() -> None:
        if not (settings.home / "data" / "kafka" / "meta.properties").exists():
            arguments = ["format", "-t", str(uuid.uuid4()), "-c", f"{conf}/server.properties"]
            command = jvm.command(
                settings, class_path, "kafka.tools.StorageTool", *arguments, heap="128m", options=options
            )
            run_once("kafka", command, settings.home / "logs" / "kafka-format.log", environment)

    return [
        Service(
            "kafka",
            problem,
            jvm.command(
                settings,
                class_path,
                "kafka.Kafka",
                f"{conf}/server.properties",
                heap=kafka.heap,
                options=options,
            ),
            {"KAFKA__PORT": kafka.port, "KAFKA__CONTROLLER_PORT": kafka.controller_port},
            kafka.host,
            prepare=format_storage,
            finish=finish,
        )
    ]
