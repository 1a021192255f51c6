"""Rejected records, sent again over real HTTP into the real app, whose publisher is in memory."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from werkzeug.serving import make_server

from infra.settings import Settings
from infra.settings.collector import Collector
from ingest.event import codec
from ingest.event.event import ClickEvent
from ingest.event.identity import UNKNOWN_KEY
from ingest.http.app import create_app
from ingest.protocols import PROTOCOLS
from ingest.protocols.snowplow import TP2
from ingest.rejects.reinject import Account, reinject
from ingest.rejects.stored import Edit, StoredReject
from ingest.tools.replay import CollectorClient
from tests.fakes import FakePublisher

NOW = 1_795_245_567_000
KEYS = {"shop": "secret-1", "app": "secret-2"}
CLICK: dict[str, Any] = {"event_type": "click", "occurred_at": NOW, "anonymous_id": "v1"}


class Served:
    """A collector at a port of this machine."""

    def __init__(self, home: Path) -> None:
        self.publisher = FakePublisher()
        app = create_app(Settings(home=home, collector=Collector.model_validate({"write_keys": KEYS})), self.publisher)
        self._server = make_server("127.0.0.1", 0, app, threaded=True)
        self.settings = Settings(
            home=home, collector=Collector.model_validate({"port": self._server.server_port, "write_keys": KEYS})
        )
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def post(self, messages: Any, key: str = "secret-1") -> None:
        with CollectorClient(self.settings) as client:
            client.request("POST", "/collect", json=messages, headers={"X-Write-Key": key})

    def rejected(self) -> list[StoredReject]:
        values = self.publisher.on("clicks.rejected")
        return [StoredReject.read(0, offset, json.loads(value)) for offset, value in enumerate(values)]

    def events(self) -> list[ClickEvent]:
        return [codec.decode(value) for value in self.publisher.on("clicks")]

    def again(self, *edits: str, records: list[StoredReject] | None = None, as_key: str | None = None) -> Account:
        chosen = self.rejected() if records is None else records
        with CollectorClient(self.settings) as client:
            return reinject(client, self.settings, chosen, [Edit.parse(edit) for edit in edits], as_key)

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def served(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Iterator[Served]:
    caplog.set_level("ERROR", "werkzeug")
    served = Served(tmp_path)
    yield served
    served.close()


def accounted(account: Account) -> dict[str, Any]:
    """Its facts, in which every record has one outcome."""
    facts = account.facts()
    assert facts["selected"] == facts["repeated"] + account.outcomes.total()
    return facts


def test_what_was_refused_is_stored_once_mended_however_often_it_is_sent(served: Served) -> None:
    wrong = CLICK | {"occurred_at": None, "at": NOW - 5}
    served.post([wrong | {"message_id": "mine"}, wrong, CLICK])
    records = served.rejected()
    assert (len(records), len(served.events())) == (2, 1)
    for _ in range(3):
        facts = accounted(served.again("occurred_at=@at", records=records))
        assert (facts["selected"], facts["accepted"]) == (2, 2)
    mended = served.events()[1:]
    assert len(mended) == 6
    assert len({event.event_id for event in mended}) == 2
    assert {event.occurred_at for event in mended} == {NOW - 5}
    assert "mine" in {event.message_id for event in mended}
    assert {(event.write_key, event.source.run) for event in mended} == {("shop", "reinject")}


def test_nothing_of_the_sender_becomes_the_visitors(served: Served) -> None:
    served.post([CLICK | {"position": -1, "user_agent": "Mozilla/5.0 Firefox/140.0", "ip": "203.0.113.9"}])
    served.again("position=1")
    [event] = served.events()
    assert (event.ip, event.device.browser, event.device.is_bot) == ("203.0.113.0", None, False)


def test_what_is_refused_again_is_accounted_for_and_not_doubled(served: Served) -> None:
    served.post([CLICK | {"position": -1}, CLICK | {"position": -1}])
    facts = accounted(served.again())
    assert (facts["selected"], facts["rejected"], facts["accepted"]) == (2, 2, 0)
    assert facts["problems"][0]["problem"].startswith("position: ")
    assert len(served.rejected()) == 4
    facts = accounted(served.again("position=1"))
    assert (facts["selected"], facts["repeated"], facts["accepted"]) == (4, 2, 2)
    assert len(served.events()) == 2


def test_a_dry_run_sends_nothing_and_knows_the_contract(served: Served) -> None:
    served.post([CLICK | {"position": -1}, CLICK | {"occurred_at": None}])
    published = list(served.publisher.records)
    facts = accounted(reinject(None, served.settings, served.rejected(), [Edit.parse("position=1")]))
    assert (facts["accepted"], facts["rejected"]) == (1, 1)
    assert served.publisher.records == published


def test_records_of_each_key_are_sent_under_it(served: Served) -> None:
    for secret in KEYS.values():
        served.post([CLICK | {"position": -1}], secret)
    assert accounted(served.again("position=1"))["accepted"] == 2
    assert [event.write_key for event in served.events()] == ["app", "shop"]


def test_records_of_an_unknown_key_need_one(served: Served) -> None:
    stranger = StoredReject("r1", "is unknown", "write_key", UNKNOWN_KEY, "native", None, NOW, dict(CLICK))
    facts = accounted(served.again(records=[stranger]))
    assert facts["unusable"] == 1
    assert "--as-key" in facts["problems"][0]["problem"]
    assert accounted(served.again(records=[stranger], as_key="app"))["accepted"] == 1
    assert [event.write_key for event in served.events()] == ["app"]


def test_a_line_of_an_access_log_goes_through_its_own_route(served: Served) -> None:
    line = '203.0.113.0 - - [17/May/2015:10:05:03 +0000] "GET /a HTTP/1.1" 200 1 "-" "Firefox"'
    record = StoredReject("r1", "odd", "line", "shop", "access_log", "a.log", NOW, line, line=7)
    for _ in range(2):
        assert accounted(served.again(records=[record]))["accepted"] == 1
    first, second = served.events()
    assert first.event_id == second.event_id
    assert (first.sequence, first.source.run) == (7, "a.log")


def test_what_cannot_be_sent_is_accounted_for(served: Served) -> None:
    served.publisher.records.clear()
    broken = StoredReject("r1", "is not JSON", "line", "shop", "native", None, NOW, "{broken")
    cut = StoredReject("r2", "too large", "event", "shop", "native", None, NOW, '{"x', truncated=True)
    facts = accounted(served.again(records=[broken, cut]))
    assert facts["unusable"] == 2
    assert served.publisher.records == []


def test_many_large_records_go_in_requests_that_the_collector_takes(served: Served) -> None:
    payload = CLICK | {"properties": {str(number): "x" * 8000 for number in range(20)}}
    records = [StoredReject(f"r{n}", "odd", "event", "shop", "native", None, NOW, payload) for n in range(101)]
    assert accounted(served.again(records=records))["accepted"] == 101
    assert len({event.event_id for event in served.events()}) == 101


def test_messages_that_were_refused_together_are_sent_again_each_under_its_own_id(tmp_path: Path) -> None:
    keys = Collector.model_validate({"write_keys": KEYS})
    publisher = FakePublisher()
    small = create_app(Settings(home=tmp_path, collector=keys.model_copy(update={"max_events": 2})), publisher)
    batch = [{"type": "track", "event": "Rated", "anonymousId": "v"} for _ in range(250)]
    answer = small.test_client().post("/v1/batch", json={"batch": batch}, headers={"X-Write-Key": "secret-1"}).json
    assert (answer["accepted"], answer["rejected"]) == (2, {"batch: holds more than 2 events": 248})
    [kept] = [StoredReject.read(0, 0, json.loads(value)) for value in publisher.on("clicks.rejected")]
    served = Served(tmp_path)
    try:
        for _ in range(2):
            facts = accounted(served.again(records=[kept]))
            assert (facts["selected"], facts["accepted"]) == (248, 248)
        assert len({event.event_id for event in served.events()}) == 248
    finally:
        served.close()


class Refused(NamedTuple):
    """A request of one message that the collector refuses, the field it names, and the edit that mends it."""

    method: str
    path: str
    options: dict[str, Any]
    field: str
    edit: str = ""  # a line of text can't be mended: it is sent again, and refused for the same reason


LONG = "v" * 600
REFUSED = {
    "native": Refused("POST", "/collect", {"json": [CLICK | {"position": -1}]}, "position", "position=1"),
    "access_log": Refused("POST", "/collect/access-log?source=a.log", {"data": b"no line of a log\n"}, "line"),
    "segment": Refused(
        "POST", "/v1/batch", {"json": {"batch": [{"type": "page", "userId": LONG}]}}, "userId", "userId=ann"
    ),
    "posthog": Refused(
        "POST", "/batch/", {"json": {"batch": [{"event": "x", "distinct_id": LONG}]}}, "distinct_id", "distinct_id=ann"
    ),
    "snowplow": Refused("POST", TP2, {"json": {"data": [{"e": "pv", "duid": LONG}]}}, "duid", "duid=ann"),
    "pixel": Refused("GET", "/pixel.gif", {"params": {"position": "-1"}}, "position", "position=1"),
}


def test_there_is_a_refused_request_of_each_protocol() -> None:
    assert REFUSED.keys() == PROTOCOLS.keys()


@pytest.mark.parametrize("protocol", REFUSED)
def test_what_any_protocol_has_refused_is_shown_mended_and_stored_once(served: Served, protocol: str) -> None:
    sent = REFUSED[protocol]
    with CollectorClient(served.settings) as client:
        client.request(sent.method, sent.path, headers={"X-Write-Key": "secret-1"}, **sent.options)
    [shown] = records = served.rejected()
    assert (shown.protocol, shown.field, shown.write_key, served.events()) == (protocol, sent.field, "shop", [])
    if not sent.edit:
        assert accounted(served.again(records=records))["rejected"] == 1
        assert [(one.protocol, one.payload, one.reason) for one in served.rejected()[1:]] == [
            (shown.protocol, shown.payload, shown.reason)
        ]
        return
    for _ in range(2):
        facts = accounted(served.again(sent.edit, records=records))
        assert (facts["accepted"], facts["problems"]) == (1, [])
    first, again = served.events()
    assert first.event_id == again.event_id
    assert (first.source.protocol, first.source.run, first.occurred_at) == (protocol, "reinject", again.occurred_at)
    assert protocol == "native" or first.occurred_at == shown.received_at, "its time is that of its first arrival"
