"""What the collector refuses, through a real Kafka and the commands that look after it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from click.testing import CliRunner
from werkzeug.serving import make_server

from infra.settings import Settings
from infra.settings.collector import Collector
from ingest.delivery.publisher import KafkaPublisher
from ingest.http.app import create_app
from ingest.rejects.cli import rejected
from ingest.tools.tail import tail
from tests.support.corners import own_topics

CLICK: dict[str, Any] = {"event_type": "click", "occurred_at": 1_795_245_567_000, "anonymous_id": "v1"}


@pytest.fixture
def corner(cluster_settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    """Topics of its own and a collector that serves them; the commands find both in the environment."""
    own = own_topics(cluster_settings).model_copy(update={"home": tmp_path})
    publisher = KafkaPublisher(own)
    server = make_server("127.0.0.1", 0, create_app(own, publisher), threaded=True)
    own = own.model_copy(
        update={"collector": Collector.model_validate({"port": server.server_port, "write_keys": {"demo": "demo"}})}
    )
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    for name, value in own.to_env().items():
        monkeypatch.setenv(name, value)
    yield own
    server.shutdown()
    thread.join()
    server.server_close()
    publisher.close()


def command(*arguments: str) -> dict[str, Any]:
    """The facts that a command prints as JSON."""
    result = CliRunner().invoke(rejected, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    facts: dict[str, Any] = json.loads(result.stdout)
    return facts


def event_ids(settings: Settings) -> list[str]:
    seen = tail(settings, settings.kafka.topic, from_beginning=True, follow=False)
    return [record.value["event_id"] for record in seen]


def test_refused_messages_are_listed_mended_and_stored_once(corner: Settings) -> None:
    late = [CLICK | {"occurred_at": "yesterday", "at": 1_795_245_567_000 - n, "message_id": f"m{n}"} for n in range(3)]
    far = [CLICK | {"position": -1}]
    response = requests.post(
        f"{corner.collector.address}/collect", json=[*late, *far, CLICK], headers={"X-Write-Key": "demo"}, timeout=30
    )
    assert response.json()["accepted"] == 1

    listed = command("list", "--json", "--samples", "1")
    assert listed["records"] == 4
    assert [(row["field"], row["write_key"], row["records"]) for row in listed["reasons"]] == [
        ("occurred_at", "demo", 3),
        ("position", "demo", 1),
    ]
    [newest] = listed["newest"]
    assert newest["payload"] == far[0]
    assert command("show", newest["id"]) == newest
    assert command("list", "--json", "--field", "position", "--since", "1h")["records"] == 1
    assert command("list", "--json", "--key", "other")["records"] == 0

    planned = command("fix", "--json", "--dry-run", "--field", "occurred_at", "--map", "occurred_at=@at")
    assert (planned["accepted"], planned["dry_run"], len(event_ids(corner))) == (3, True, 1)
    for _ in range(2):
        assert command("fix", "--json", "--field", "occurred_at", "--map", "occurred_at=@at")["accepted"] == 3
        assert command("fix", "--json", newest["id"], "--map", "position=")["accepted"] == 1
    ids = event_ids(corner)
    assert (len(ids), len(set(ids))) == (9, 5)
    assert command("reinject", "--json", "--field", "position")["rejected"] == 1


def test_a_record_that_is_not_there_is_an_error(corner: Settings) -> None:
    result = CliRunner().invoke(rejected, ["show", "nothing"])
    assert result.exit_code != 0
    assert "no record nothing" in str(result.exception)
    assert CliRunner().invoke(rejected, ["list", "--since", "soon"]).exit_code == 2
    assert CliRunner().invoke(rejected, ["fix", "--map", "price"]).exit_code == 2


def test_the_tables_show_what_the_json_says(corner: Settings) -> None:
    requests.post(
        f"{corner.collector.address}/collect",
        json=[CLICK | {"position": -1, "properties": {"x": "[bold]"}}],
        headers={"X-Write-Key": "demo"},
        timeout=30,
    )
    shown = CliRunner().invoke(rejected, ["list"], catch_exceptions=False)
    assert "position" in shown.output and "[bold]" in shown.output
    done = CliRunner().invoke(rejected, ["reinject", "--map", "position=1"], catch_exceptions=False)
    assert (done.exit_code, "accepted" in done.output) == (0, True)
