"""From messages to Kafka records: each is taken, or refused with a reason."""

from __future__ import annotations

from typing import Any

import pytest

from infra.settings.collector import Collector
from ingest.convert.native import Reading, RequestOutcome, read_native
from ingest.event import codec
from ingest.event.context import Context
from ingest.event.message import Message, Messages
from ingest.policy.pipeline import EventPolicy

NOW = 1_795_245_567_000
CLICK = {"event_type": "click", "occurred_at": NOW, "anonymous_id": "v1"}


def taken(*payloads: Any, run: str | None = None) -> RequestOutcome:
    messages = [Message(number, payload) for number, payload in enumerate(payloads)]
    reading = Reading(Context("shop", NOW, run=run), "clicks", EventPolicy(Collector()))
    return read_native(Messages("batch", messages, {}), reading)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"anonymous_id": "\ud800"}, "anonymous_id"),
        ({"message_id": "a\udfff"}, "message_id"),
        ({"user_agent": "\ud800"}, "user_agent"),
        ({"page": {"title": "\ud800"}}, "page"),
        ({"campaign": {"\ud800": "x"}}, "campaign"),
        ({"experiments": {"x": "\ud800"}}, "experiments"),
        ({"consent": {"\ud800": True}}, "consent"),
    ],
)
def test_half_a_surrogate_pair_is_refused_and_its_field_named(fields: dict[str, Any], field: str) -> None:
    result = taken(CLICK | fields, CLICK)
    assert [(reject.number, reject.field) for reject in result.rejects] == [(0, field)]
    assert len(result.records) == 1


def test_in_a_property_it_survives_as_an_escape() -> None:
    [record] = taken(CLICK | {"properties": {"s": "\ud800", "\ud800": 1}}).records
    assert codec.decode(record.value).properties == {"s": '"\\ud800"', "\\ud800": "1"}


def test_what_no_query_can_say_in_unicode_is_refused() -> None:
    assert [reject.field for reject in taken(CLICK, run="\ud800").rejects] == ["event"]


def test_a_deeply_nested_property_is_refused() -> None:
    deep: Any = 1
    for _ in range(100_000):
        deep = [deep]
    assert [reject.field for reject in taken(CLICK | {"properties": {"deep": deep}}).rejects] == ["event"]


def test_the_secret_stays_out_and_the_callers_payload_as_it_was() -> None:
    payload = CLICK | {"write_key": "s3cret"}
    [record] = taken(payload).records
    assert codec.decode(record.value).properties == {}
    assert payload["write_key"] == "s3cret"


def test_what_is_no_object_is_refused() -> None:
    assert [(reject.field, reject.reason) for reject in taken(None, 7, [], "x").rejects] == [
        ("event", "is no JSON object")
    ] * 4
