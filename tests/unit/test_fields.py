"""A field of the event's schema that is forgotten anywhere is named here."""

from __future__ import annotations

import json

import msgspec

from ingest.event import codec, fields
from ingest.event.context import Context
from ingest.event.event import ClickEvent, Device, Page, Source, as_dict
from ingest.policy.tracking_plan import SEEN
from ingest.protocols import native
from tests.support.events import FULL

NAMES = [field["name"] for field in codec.SCHEMA["fields"]]
OF_THE_COLLECTOR = {"event_id", "received_at", "device", "write_key", "source", "flags"}  # no client can say them


def names(record: type[msgspec.Struct]) -> list[str]:
    return [field.name for field in msgspec.structs.fields(record)]


def test_the_event_has_the_schemas_fields_in_their_order() -> None:
    assert names(ClickEvent) == NAMES
    parts = {
        field["name"]: field["type"]["fields"] for field in codec.SCHEMA["fields"] if fields.kind(field) == "record"
    }
    assert {name: [part["name"] for part in inner] for name, inner in parts.items()} == {
        "page": names(Page),
        "device": names(Device),
        "source": names(Source),
    }


def test_of_each_field_it_is_said_whether_it_names_a_person() -> None:
    assert set(NAMES) == fields.PERSONAL | fields.IMPERSONAL, "say it in ingest/event/fields.py"
    assert not fields.PERSONAL & fields.IMPERSONAL
    assert set(NAMES) >= fields.NOT_SAID


def test_a_native_message_can_say_each_field_and_each_is_taken() -> None:
    assert native.KNOWN.keys() >= set(NAMES) - OF_THE_COLLECTOR
    given = {name: value for name, value in as_dict(FULL).items() if name in native.KNOWN}
    given |= {"properties": {name: json.loads(value) for name, value in FULL.properties.items()}}
    event = native.parse(given, Context("demo", FULL.received_at, run="history"))
    assert {name for name in NAMES if getattr(event, name) != getattr(FULL, name)} <= OF_THE_COLLECTOR


def test_a_tracking_plan_sees_what_was_said_of_items_and_money() -> None:
    shop = {"item_id", "list_id", "position", "impression_id", "order_id", "value", "currency", "quantity"}
    assert shop <= set(SEEN)
    assert not {"anonymous_id", "user_id", "ip", "event_type", "properties"} & set(SEEN)
