"""Facts about the event's fields that follow from click_event.avsc, and a list of those that name a person. Pure.

A field added to the schema becomes a column of the events table, is compared between duplicates and can be required by
tracking plans. Only whether it names a person has to be declared: in PERSONAL or in IMPERSONAL.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ingest.event.codec import SCHEMA

# Erased with a person: texts become null, maps empty, and a record's fields null.
PERSONAL = frozenset(
    ("anonymous_id", "user_id", "client_session_id", "page", "campaign", "ip", "order_id", "properties")
)
# Kept when a person is erased. `message_id` is replaced by the event's id.
IMPERSONAL = frozenset(
    ("event_id", "message_id", "event_type", "event_name", "occurred_at", "received_at", "sequence", "device",
     "consent", "write_key", "source", "item_id", "list_id", "position", "propensity", "impression_id",
     "model_version", "value", "currency", "quantity", "experiments", "flags")
)  # fmt: skip
# Not compared between duplicates: a retry may differ in them and still be the same message.
NOT_SAID = frozenset(
    ("event_id", "message_id", "occurred_at", "received_at", "sequence", "client_session_id", "device", "ip",
     "consent", "write_key", "source", "flags")
)  # fmt: skip


def kind(field: Mapping[str, Any]) -> str:
    """The name of an Avro field's type, null aside: string, enum, int, long, double, map, array, record, timestamp."""
    type_ = field["type"]
    if isinstance(type_, list):
        [type_] = [one for one in type_ if one != "null"]
    if isinstance(type_, str):
        return type_
    return "timestamp" if type_.get("logicalType") == "timestamp-millis" else str(type_["type"])


KINDS = {field["name"]: kind(field) for field in SCHEMA["fields"]}
TIMES = tuple(name for name, of in KINDS.items() if of == "timestamp")


def said(schema: Mapping[str, Any] = SCHEMA) -> dict[str, Mapping[str, Any]]:
    """Path -> field, of all fields that are compared between duplicates; a record by its parts (page.url …)."""
    found: dict[str, Mapping[str, Any]] = {}
    for field in schema["fields"]:
        if field["name"] in NOT_SAID:
            continue
        if kind(field) == "record":
            found |= {f"{field['name']}.{inner['name']}": inner for inner in field["type"]["fields"]}
        else:
            found[field["name"]] = field
    return found
