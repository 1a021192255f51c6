"""Rejected records, chosen, mended and made ready."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any

import pytest

from ingest.errors import InvalidEvent
from ingest.rejects.stored import Edit, Selection, StoredReject, prepare

NOW = 1_795_245_567_000


def kept(payload: Any = None, **changes: Any) -> StoredReject:
    fields: dict[str, Any] = {
        "id": "r1",
        "reason": "is missing",
        "field": "occurred_at",
        "write_key": "shop",
        "protocol": "native",
        "run": None,
        "received_at": NOW,
        "payload": {"message_id": "m1", "occurred_at": NOW} if payload is None else payload,
    }
    return StoredReject(**fields | changes)


def test_a_record_without_an_id_is_known_by_its_place() -> None:
    document = {
        "reason": "odd", "field": "event", "write_key": "shop", "source": {"protocol": "segment", "run": "r"},
        "received_at": 5, "sent_at": 4, "line": 7, "payload": [1],
    }  # fmt: skip
    assert StoredReject.read(2, 31, document) == StoredReject(
        "2-31", "odd", "event", "shop", "segment", "r", 5, [1], 4, 7, False
    )
    assert StoredReject.read(2, 31, document | {"id": "mine"}).id == "mine"
    assert StoredReject.read(0, 1, {}).protocol == "native"


@pytest.mark.parametrize(
    ("selection", "matches"),
    [
        (Selection(), True),
        (Selection(since=NOW), True),
        (Selection(since=NOW + 1), False),
        (Selection(reason="MISSING"), True),
        (Selection(reason="occurred_at: is miss"), True),
        (Selection(reason="unknown"), False),
        (Selection(field="occurred_at", key="shop", protocol="native"), True),
        (Selection(field="occurred"), False),
        (Selection(key="app"), False),
        (Selection(protocol="segment"), False),
        (Selection(ids=("r0", "r1")), True),
        (Selection(ids=("r0",)), False),
    ],
)
def test_records_are_chosen_by_all_that_is_said(selection: Selection, matches: bool) -> None:
    assert selection.matches(kept()) is matches


@pytest.mark.parametrize(
    ("edit", "payload", "expected"),
    [
        ("price=3", {}, {"price": 3}),
        ("price=null", {"price": 1}, {"price": None}),
        ("color=red", {}, {"color": "red"}),
        ('color="@red"', {}, {"color": "@red"}),
        ("a.b.c=[1]", {"a": {"x": 1}}, {"a": {"x": 1, "b": {"c": [1]}}}),
        ("a.b=1", {"a": 7}, {"a": {"b": 1}}),
        ("x==", {}, {"x": "="}),
        ("price=", {"price": 1, "x": 2}, {"x": 2}),
        ("a.b=", {"a": {"b": 1, "c": 2}}, {"a": {"c": 2}}),
        ("nothing=", {"x": 2}, {"x": 2}),
        ("new=@old", {"old": 1}, {"new": 1}),
        ("page.url=@a.url", {"a": {"url": "/", "x": 1}}, {"page": {"url": "/"}, "a": {"x": 1}}),
        ("new=@nothing", {"new": 1}, {"new": 1}),
        ("new=@x.y", {"x": 7}, {"x": 7}),
    ],
)  # fmt: skip
def test_an_edit_sets_moves_or_removes(edit: str, payload: dict[str, Any], expected: dict[str, Any]) -> None:
    before = repr(payload)
    assert Edit.parse(edit).apply(payload) == expected
    assert repr(payload) == before


@pytest.mark.parametrize("text", ["price", "=3", "price=@", ""])
def test_what_is_no_edit_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="field=value"):
        Edit.parse(text)


@pytest.mark.parametrize(
    ("protocol", "field"),
    [("native", "message_id"), ("segment", "messageId"), ("posthog", "uuid"), ("snowplow", "eid")],
)
def test_a_message_keeps_its_id_or_gets_one_that_follows_from_its_record(protocol: str, field: str) -> None:
    own = prepare(kept({field: "mine"}, protocol=protocol))
    assert own.message[field] == own.message_id == "mine"
    for wrong in ({}, {field: None}, {field: ""}, {field: 7}, {field: "[redacted]"}):
        first, again = (prepare(kept(wrong, protocol=protocol)) for _ in range(2))
        assert first.message[field] == first.message_id == again.message_id
        assert uuid.UUID(first.message_id)
        assert prepare(kept(wrong, protocol=protocol, id="r2")).message_id != first.message_id


SENT = NOW - 3_600_000  # by a clock that is an hour slow


@pytest.mark.parametrize(
    ("protocol", "payload", "field", "time"),
    [
        ("native", {"occurred_at": SENT - 1000, "sent_at": SENT}, "occurred_at", NOW - 1000),
        ("native", {"occurred_at": SENT - 1000}, "occurred_at", SENT - 1000),
        ("snowplow", {}, "dtm", str(NOW)),
        ("native", {"occurred_at": "2026-01-01T00:00:00", "sent_at": SENT}, "occurred_at", "2026-01-01T00:00:00"),
        ("native", {"occurred_at": -1e14, "sent_at": 1e14}, "occurred_at", -1e14),
        ("snowplow", {"dtm": str(SENT - 1000), "stm": str(SENT)}, "dtm", str(NOW - 1000)),
        ("snowplow", {"dtm": str(SENT - 1000), "stm": str(SENT), "ttm": "5"}, "dtm", str(SENT - 1000)),
        ("pixel", {}, "occurred_at", str(NOW)),
    ],
)
def test_times_are_corrected_as_at_the_first_arrival(
    protocol: str, payload: dict[str, Any], field: str, time: object
) -> None:
    assert prepare(kept(payload, protocol=protocol)).message[field] == time


@pytest.mark.parametrize("zone", ["Z", "", "+02:00"])
def test_times_of_segment_and_posthog_are_corrected_by_the_batchs(zone: str) -> None:
    at = datetime.fromisoformat(f"2026-11-21T05:00:00{zone or 'Z'}")
    sent_at = int(at.timestamp() * 1000) + 1000
    given = at.replace(tzinfo=None).isoformat() + zone
    segment = {"originalTimestamp": given, "timestamp": "2020-01-01T00:00:00Z"}
    ready = prepare(kept(segment, protocol="segment", sent_at=sent_at))
    corrected = datetime.fromisoformat(ready.message["originalTimestamp"])
    assert corrected.timestamp() * 1000 == NOW - 1000
    ready = prepare(kept({"timestamp": given}, protocol="posthog", sent_at=sent_at))
    assert datetime.fromisoformat(ready.message["timestamp"]) == corrected


def test_a_corrected_message_no_longer_says_when_it_was_sent() -> None:
    assert "sent_at" not in prepare(kept({"occurred_at": SENT, "sent_at": SENT})).message


def test_a_native_message_has_to_say_its_time() -> None:
    assert "occurred_at" not in prepare(kept({"message_id": "m"})).message


def test_edits_come_before_ids_and_times() -> None:
    edits = [Edit.parse("occurred_at=@at"), Edit.parse("message_id=@id"), Edit.parse("item_id=lamp")]
    ready = prepare(kept({"at": SENT, "id": "mine", "sent_at": SENT}), edits)
    assert ready.message == {"occurred_at": NOW, "message_id": "mine", "item_id": "lamp"}


def test_redacted_values_stay_so_and_redacted_agents_are_missing() -> None:
    payload = {
        "message_id": "m", "occurred_at": 1, "user_agent": "[redacted]", "ip": "203.0.113.0",
        "properties": {"email": "[redacted]", "ua": "[redacted]"}, "list": [{"ip": "[redacted]"}],
    }  # fmt: skip
    assert prepare(kept(payload)).message == {
        "message_id": "m", "occurred_at": 1, "ip": "203.0.113.0", "properties": {"email": "[redacted]"}, "list": [{}],
    }  # fmt: skip


@pytest.mark.parametrize(
    "record",
    [
        kept("{broken"),
        kept([1]),
        kept({"x": 1}, truncated=True),
        kept({"x": 1}, protocol="smoke_signals"),
        kept({"x": 1}, protocol="access_log"),
        kept(7),
    ],
)
def test_what_does_not_hold_enough_cannot_be_sent(record: StoredReject) -> None:
    with pytest.raises(InvalidEvent):
        prepare(record)


def test_a_line_of_an_access_log_is_sent_as_it_is() -> None:
    assert prepare(kept("203.0.113.0 - - x", protocol="access_log", line=3)).message == "203.0.113.0 - - x"
