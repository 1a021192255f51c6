"""Segment's protocol: what each field of a message becomes."""

from __future__ import annotations

from typing import Any

import pytest

from ingest.errors import InvalidEvent
from ingest.event.context import Context
from ingest.protocols.segment import read

NOW = 1_795_245_567_000
CONTEXT = Context("shop", NOW, protocol="segment")


def one(**fields: Any) -> dict[str, Any]:
    """The payload of a message that is one event, without the fields that say nothing."""
    [payload] = read({"type": "track", "event": "Rated"} | fields, CONTEXT)
    return {name: value for name, value in payload.items() if value not in (None, {})}


def refused(**fields: Any) -> tuple[str, str]:
    with pytest.raises(InvalidEvent) as caught:
        read({"type": "track", "event": "Rated"} | fields, CONTEXT)
    return caught.value.field, caught.value.reason


@pytest.mark.parametrize(
    ("kind", "event_type", "name"),
    [("page", "page_view", "Home"), ("screen", "page_view", "Home"), ("identify", "identify", None),
     ("group", "identify", "group"), ("alias", "identify", "alias")],
)  # fmt: skip
def test_each_kind_has_a_type(kind: str, event_type: str, name: str | None) -> None:
    got = one(type=kind, name="Home")
    assert (got["event_type"], got.get("event_name")) == (event_type, name)


def test_ids_are_taken_as_they_are_and_numbers_as_text() -> None:
    got = one(messageId="m", anonymousId="a", userId=42)
    assert (got["message_id"], got["anonymous_id"], got["user_id"]) == ("m", "a", "42")
    assert "anonymous_id" in read({"type": "page"}, CONTEXT)[0], "native asks for it, be it null"


@pytest.mark.parametrize(
    ("times", "occurred_at", "sent_at"),
    [
        ({"timestamp": "2026-11-21T05:59:27Z"}, None, None),
        ({"timestamp": "2026-11-21T07:59:27+02:00"}, None, None),
        ({"timestamp": "2026-11-21T05:59:27"}, None, None),
        ({"originalTimestamp": 5000, "timestamp": 7000, "sentAt": 6000}, 5000, 6000),
        ({}, NOW, NOW),
    ],
)
def test_times(times: dict[str, Any], occurred_at: int | None, sent_at: int | None) -> None:
    got = one(**times)
    same = 1_795_240_767_000  # 2026-11-21T05:59:27Z
    assert got["occurred_at"] == (same if isinstance(times.get("timestamp"), str) else occurred_at)
    assert got.get("sent_at") == sent_at


@pytest.mark.parametrize("given", ["yesterday", [], True, "2026-13-01T00:00:00Z", 1e300])
def test_a_broken_time_is_named(given: object) -> None:
    assert refused(timestamp=given)[0] == "timestamp"


def test_the_page_of_a_page_call_is_its_own_else_the_contexts() -> None:
    about = {"page": {"url": "https://a.example/x?q=1", "path": "/x", "search": "?q=1", "title": "X", "referrer": ""}}
    own = {"url": "https://a.example/y", "title": "Y", "path": "/y", "shelf": 3}
    assert one(context=about)["page"] == {"url": "https://a.example/x?q=1", "title": "X"}
    assert "properties" not in one(context=about), "all of it is the page"
    got = one(type="page", name="N", properties=own, context=about)
    assert got["page"] == {"url": "https://a.example/y", "title": "Y"}
    assert got["properties"] == {
        "shelf": 3, "context.page.url": "https://a.example/x?q=1", "context.page.path": "/x",
        "context.page.search": "?q=1", "context.page.title": "X",
    }  # fmt: skip


def test_a_page_known_by_its_path_alone() -> None:
    assert one(context={"page": {"path": "/x", "referrer": "$direct"}})["page"] == {"path": "/x"}


def test_what_the_context_says_has_its_fields_and_the_rest_is_kept() -> None:
    got = one(
        context={
            "userAgent": "Mozilla/5.0",
            "ip": "203.0.113.9",
            "library": {"name": "lib", "version": "1.2", "variant": "v"},
            "campaign": {"name": "c", "source": "s", "odd": [1]},
            "sessionId": 1795259374759,
            "consent": {"categoryPreferences": {"ads": False, "odd": "x"}, "at": 1},
            "consentManagement": {"allowedConsentIds": ["C1"], "deniedConsentIds": ["C2"]},
            "locale": "de",
            "app": {},
            "screen": {"width": 5},
        },
        integrations={"All": True},
    )
    assert (got["user_agent"], got["ip"], got["sdk"]) == ("Mozilla/5.0", "203.0.113.9", "lib/1.2")
    assert got["campaign"] == {"campaign": "c", "source": "s"}
    assert got["client_session_id"] == "1795259374759"
    assert got["consent"] == {"ads": False, "C1": True, "C2": False}
    assert got["properties"] == {
        "context.locale": "de",
        "context.screen": {"width": 5},
        "context.library.variant": "v",
        "context.campaign.odd": [1],
        "context.consent.at": 1,
        "context.consent.odd": "x",
        "message.integrations": {"All": True},
    }


def test_an_address_that_is_none_is_no_reason_to_refuse() -> None:
    got = one(context={"ip": "unknown"})
    assert "ip" not in got
    assert got["properties"] == {"context.ip": "unknown"}


def test_an_events_own_property_keeps_its_name() -> None:
    got = one(properties={"context.locale": 1}, context={"locale": "de"})
    assert got["properties"] == {"context.locale": 1, "context.locale'": "de"}


def test_identities_keep_their_links() -> None:
    assert one(type="alias", userId="u", previousId="p")["properties"] == {"previousId": "p"}
    assert one(type="group", groupId="g", traits={"seats": 3})["properties"] == {"groupId": "g", "seats": 3}
    assert one(type="identify", traits={"plan": "gold"})["properties"] == {"plan": "gold"}
    assert one(type="identify", context={"traits": {"plan": "gold"}})["properties"] == {"plan": "gold"}


def test_products_are_events_of_one_message() -> None:
    message = {
        "type": "track", "event": "Order Completed", "messageId": "m", "anonymousId": "a",
        "properties": {"order_id": "o", "products": [{"product_id": "x", "price": 2}, {"product_id": "y", "price": 3}]},
    }  # fmt: skip
    payloads = read(message, CONTEXT)
    assert [(p["message_id"], p["event_name"], p["item_id"], p["value"]) for p in payloads] == [
        ("m", "Order Completed", "x", 2.0),
        ("m", "Order Completed", "y", 3.0),
    ]


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"type": None}, "type"),
        ({"type": "sing"}, "type"),
        ({"event": None}, "event"),
        ({"event": {}}, "event"),
        ({"properties": [1]}, "properties"),
        ({"context": "x"}, "context"),
        ({"context": {"page": 1}}, "context.page"),
        ({"userId": {"a": 1}}, "userId"),
        ({"messageId": True}, "messageId"),
        ({"type": "identify", "traits": "x"}, "traits"),
    ],
)
def test_what_is_wrong_is_named_as_segment_does(fields: dict[str, Any], field: str) -> None:
    assert refused(**fields)[0] == field
