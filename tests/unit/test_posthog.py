"""PostHog's capture protocol: what each event becomes."""

from __future__ import annotations

from typing import Any

import pytest

from ingest.errors import InvalidEvent
from ingest.event.context import Context
from ingest.protocols.posthog import read

NOW = 1_795_245_567_000


def one(event: str = "Rated", **fields: Any) -> dict[str, Any]:
    properties = {name: fields.pop(name) for name in list(fields) if name.startswith("$") or name == "title"}
    message = {"event": event, "distinct_id": "u", "uuid": "m", "timestamp": NOW} | fields
    message["properties"] = properties | fields.get("properties", {})
    [payload] = read(message, Context("shop", NOW, protocol="posthog"))
    return {name: value for name, value in payload.items() if value not in (None, {})}


@pytest.mark.parametrize(
    ("event", "properties", "event_type"),
    [
        ("$pageview", {}, "page_view"),
        ("$screen", {}, "page_view"),
        ("$autocapture", {"$event_type": "click"}, "click"),
        ("$autocapture", {"$event_type": "change"}, "custom"),
        ("$identify", {}, "identify"),
        ("$set", {}, "identify"),
        ("$groupidentify", {}, "identify"),
        ("Product Clicked", {}, "click"),
        ("Rated", {}, "custom"),
    ],
)
def test_each_event_has_a_type_and_keeps_its_name(event: str, properties: dict[str, Any], event_type: str) -> None:
    got = one(event, properties=properties)
    assert (got["event_type"], got["event_name"], got["message_id"]) == (event_type, event, "m")


@pytest.mark.parametrize(
    ("properties", "ids"),
    [
        ({}, (None, "u")),
        ({"$device_id": "d"}, ("d", "u")),
        ({"$device_id": "u"}, ("u", None)),
        ({"$anon_distinct_id": "a"}, ("a", "u")),
        ({"$process_person_profile": False}, ("u", None)),
    ],
)
def test_who_it_was(properties: dict[str, Any], ids: tuple[str | None, str | None]) -> None:
    got = one(properties=properties)
    assert (got.get("anonymous_id"), got.get("user_id")) == ids


def test_an_alias_keeps_the_link() -> None:
    got = one("$create_alias", distinct_id="before", properties={"distinct_id": "before", "alias": "u"})
    assert (got["event_type"], got["user_id"], got["properties"]) == ("identify", "u", {"previousId": "before"})


def test_properties_with_a_field_move_there_and_the_rest_stays() -> None:
    got = one(
        "$pageview",
        properties={
            "$current_url": "https://a.example/x", "$referrer": "$direct", "title": "X", "$session_id": "s",
            "$ip": "203.0.113.9", "$lib": "web", "$lib_version": "1.2", "$raw_user_agent": "Mozilla/5.0",
            "$feature/new-cart": "test", "$feature/beta": True, "$os": "Linux", "stars": 5,
        },
        **{"$set": {"plan": "gold"}},
    )  # fmt: skip
    assert got["page"] == {"url": "https://a.example/x", "title": "X"}
    assert (got["client_session_id"], got["ip"], got["sdk"]) == ("s", "203.0.113.9", "web/1.2")
    assert got["experiments"] == {"new-cart": "test", "beta": "true"}
    assert got["properties"] == {"$referrer": "$direct", "$os": "Linux", "stars": 5, "$set": {"plan": "gold"}}


def test_an_orders_lines_have_the_trackers_properties_by_their_names() -> None:
    got = one("Order Completed", properties={"order_id": "o", "products": [{"id": "a", "price": 2}], "$os": "Linux"})
    assert (got["event_type"], got["item_id"], got["order_id"], got["value"]) == ("purchase", "a", "o", 2.0)
    assert got["properties"] == {"price": 2, "$os": "Linux"}


@pytest.mark.parametrize(
    ("fields", "field"),
    [({"event": ""}, "event"), ({"properties": 1}, "properties"), ({"distinct_id": {}}, "distinct_id"),
     ({"timestamp": "x"}, "timestamp"), ({"uuid": [1]}, "uuid")],
)  # fmt: skip
def test_what_is_wrong_is_named_as_posthog_does(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidEvent) as caught:
        read({"event": "Rated", "distinct_id": "u"} | fields, Context("shop", NOW))
    assert caught.value.field == field
