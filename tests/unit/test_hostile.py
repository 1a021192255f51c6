"""Whatever is sent is answered with a 2xx or a 4xx, and what was taken can be read again."""

from __future__ import annotations

import json
import random
from pathlib import Path

from infra.sections import Collector
from infra.settings import Settings
from ingest import codec
from ingest.collector import create_app
from tests.fakes import FakePublisher

NOW = 1_795_245_567_000
FIELDS = [
    "event_type", "occurred_at", "anonymous_id", "event_name", "message_id", "sent_at", "sequence", "user_id", "page",
    "client_session_id", "campaign", "consent", "user_agent", "ip", "sdk", "item_id", "list_id", "position", "value",
    "propensity", "impression_id", "model_version", "order_id", "currency", "quantity", "experiments", "properties",
    "color", "write_key", "batch", "page.url",
]  # fmt: skip
VALUES = [
    "null", "true", "0", "-1", "1.5", "1e400", "-1e400", "NaN", '""', '"x"', '"EUR"', '"\\ud800"', '"\\u0000"', "[]",
    "{}", '{"a":1}', '{"a":"b"}', '{"":"x"}', '{"url":"https://[x/?utm_source=%ff"}', '{"url":7,"z":1}',
    '{"a":"\\ud800"}', '{"\\ud800":"a"}', '{"\\ud800":1}', '{"a":{"b":[1,{"c":1e400}]}}', "1" + "0" * 30,
    "1" + "0" * 400, "1" + "0" * 5000, '"2015-05-17T10:05:03Z"', '"300.1.1.1"', '"2001:db8::1%eth0"', "01", '"\t"',
    "9223372036854775808", "[" * 300 + "]" * 300, "[" * 3000 + "]" * 3000,
    '"' + "é" * 9000 + '"', '"' + "x" * 600 + '"',
]  # fmt: skip


def test_no_body_is_a_server_error(tmp_path: Path) -> None:
    rng, publisher = random.Random(4), FakePublisher()
    settings = Settings(home=tmp_path, collector=Collector(write_keys={"shop": "key"}))
    client = create_app(settings, publisher, now=lambda: NOW).test_client()
    statuses: dict[int, int] = {}
    for _ in range(1500):
        status = client.post("/collect", data=_body(rng), headers={"X-Write-Key": "key"}).status_code
        statuses[status] = statuses.get(status, 0) + 1
    assert set(statuses) == {200, 400}
    assert min(statuses.values()) > 150, statuses
    assert [codec.decode(value).write_key for value in publisher.on("clicks")].count("shop") > 150
    assert all(json.loads(value)["write_key"] == "shop" for value in publisher.on("clicks.rejected"))


def _body(rng: random.Random) -> bytes:
    def event() -> str:
        fields = ['"event_type":"click"', f'"occurred_at":{NOW}', '"anonymous_id":"v1"']
        fields += [f'"{rng.choice(FIELDS)}":{rng.choice(VALUES)}' for _ in range(rng.randrange(3))]
        return "{" + ",".join(fields) + "}"

    kind = rng.random()
    if kind < 0.4:
        return event().encode()
    if kind < 0.6:
        return f"[{event()},{event()}]".encode()
    if kind < 0.7:
        return f'{{"batch":[{event()}],"sent_at":{rng.choice(VALUES)}}}'.encode()
    if kind < 0.8:
        return f"{event()}\n{event()}\n".encode()
    broken = bytearray(event().encode())
    broken[rng.randrange(len(broken))] = rng.randrange(256)
    return bytes(broken)
