"""Ids and times of events."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime, timedelta, timezone

import pytest

from ingest.event.event import event_id, new_message_id, to_millis


def test_event_ids_never_change() -> None:
    # Every id ever stored derives like this one: a change would double all events on a replay.
    assert event_id("demo", "m1") == "9e99507d-ab2e-5ac6-ba98-09605181061e"
    assert event_id("demo", "m1", 1) == "fa908d0a-c53f-5f45-9f2d-3db61dbaa4e9"


def test_a_message_id_is_a_uuid_of_version_7_and_sorts_by_time() -> None:
    first = new_message_id()
    assert uuid.UUID(first).version == 7
    assert uuid.UUID(first).variant == uuid.RFC_4122
    assert len({new_message_id() for _ in range(1000)}) == 1000


def test_ids_differ_by_key_message_and_index() -> None:
    ids = {event_id(*parts) for parts in [("a", "bc", 0), ("ab", "c", 0), ("a", "bc", 1), ("a", "bd", 0)]}
    assert len(ids) == 4


def test_millis_are_exact_in_any_zone() -> None:
    moment = datetime(2015, 5, 17, 10, 5, 3, 1000, UTC)
    assert to_millis(moment) == 1431857103001
    assert to_millis(moment.astimezone(timezone(timedelta(hours=-7)))) == 1431857103001


@pytest.mark.parametrize("text", ["m1", 'say "hi"\\', "Grüße 漢😀", "\x00\x1f\x7f/\u2028", ""])
def test_event_ids_are_uuid5_of_the_json_of_their_parts(text: str) -> None:
    namespace = uuid.UUID("6a1f5b0e-3c57-5d0b-9a4e-7b1f7f0c2d11")
    expected = uuid.uuid5(namespace, json.dumps([text, text, 7], ensure_ascii=False))
    assert event_id(text, text, 7) == str(expected)


def test_millis_are_exact_at_both_ends_of_the_calendar() -> None:
    assert to_millis(datetime.min.replace(tzinfo=UTC)) == -62135596800000
    assert to_millis(datetime.max.replace(tzinfo=UTC)) == 253402300799999
