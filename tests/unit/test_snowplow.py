"""Snowplow's tracker protocol: what each event and parameter becomes."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from ingest.errors import InvalidEvent
from ingest.event.context import Context
from ingest.protocols.snowplow import read

NOW = 1_795_245_567_000
CONTEXT = Context("shop", NOW, protocol="snowplow")
ECOMMERCE = "iglu:com.snowplowanalytics.snowplow.ecommerce"
ENHANCED = "iglu:com.google.analytics.enhanced-ecommerce"
LAMP = {"id": "lamp-1", "name": "Lamp", "price": 19.5, "quantity": 2, "position": 1, "currency": "EUR"}
BULB = {"id": "bulb-7", "price": 0.5, "position": 2, "currency": "EUR"}


def events(**params: Any) -> list[dict[str, Any]]:
    read_ = read({"eid": "m", "dtm": str(NOW - 10), **params}, CONTEXT)
    return [{name: value for name, value in payload.items() if value not in (None, {})} for payload in read_]


def one(**params: Any) -> dict[str, Any]:
    [event] = events(**params)
    return event


def refused(**params: Any) -> str:
    with pytest.raises(InvalidEvent) as caught:
        events(**params)
    return caught.value.field


def described(schema: str, data: object, *contexts: tuple[str, object], encoded: bool = False) -> dict[str, str]:
    """Parameters of a self-describing event with contexts."""
    inner = {"schema": f"{schema}/jsonschema/1-0-0", "data": data}
    ue = json.dumps({"schema": "iglu:com.snowplowanalytics.snowplow/unstruct_event/jsonschema/1-0-0", "data": inner})
    listed = [{"schema": f"{schema}/jsonschema/1-0-0", "data": data} for schema, data in contexts]
    co = json.dumps({"schema": "iglu:com.snowplowanalytics.snowplow/contexts/jsonschema/1-0-0", "data": listed})
    if encoded:
        return {
            "e": "ue",
            "ue_px": base64.urlsafe_b64encode(ue.encode()).decode().rstrip("="),
            "cx": base64.b64encode(co.encode()).decode(),
        }
    return {"e": "ue", "ue_pr": ue, "co": co}


def action(data: object, *contexts: tuple[str, object], encoded: bool = False) -> list[dict[str, Any]]:
    named = [(f"{ECOMMERCE}/{name}", value) for name, value in contexts]
    return events(**described(f"{ECOMMERCE}/snowplow_ecommerce_action", data, *named, encoded=encoded))


def test_a_page_view_with_all_that_a_tracker_says() -> None:
    got = one(
        e="pv", url="https://a.example/x", page="X", refr="https://b.example/", duid="v", uid="u", sid="s",
        tv="js-4.8.0", ua="Mozilla/5.0", ip="203.0.113.9", stm=str(NOW), aid="app", res="1280x720",
    )  # fmt: skip
    assert got == {
        "event_type": "page_view", "message_id": "m", "anonymous_id": "v", "user_id": "u", "client_session_id": "s",
        "occurred_at": NOW - 10, "sent_at": NOW, "user_agent": "Mozilla/5.0", "ip": "203.0.113.9", "sdk": "js-4.8.0",
        "page": {"url": "https://a.example/x", "title": "X", "referrer": "https://b.example/"},
        "properties": {"snowplow.aid": "app", "snowplow.res": "1280x720"},
    }  # fmt: skip


def test_a_time_of_sending_cut_to_the_second_corrects_nothing() -> None:
    assert one(e="pv", stm=str(NOW - 700))["sent_at"] == NOW - 10


def test_a_true_time_is_not_corrected() -> None:
    got = one(e="pv", ttm="1431857103000", stm=str(NOW))
    assert (got["occurred_at"], got.get("sent_at")) == (1431857103000, None)
    assert got["properties"] == {"snowplow.dtm": str(NOW - 10), "snowplow.stm": str(NOW)}


@pytest.mark.parametrize(
    ("ids", "anonymous_id"),
    [({"nuid": "n"}, "n"), ({"tnuid": "t"}, "t"), ({"duid": "d", "nuid": "n"}, "d"), ({}, None)],
)
def test_who_it_was(ids: dict[str, str], anonymous_id: str | None) -> None:
    assert one(e="pv", **ids).get("anonymous_id") == anonymous_id


def test_an_apps_session_context_says_who_and_which_session() -> None:
    session = ("iglu:com.snowplowanalytics.snowplow/client_session", {"userId": "v", "sessionId": "s"})
    got = one(**described("iglu:com.acme/opened", {}, session))
    assert (got["anonymous_id"], got["client_session_id"]) == ("v", "s")
    assert "snowplow.contexts" in got["properties"], "its other fields have no place else"


def test_pings_structured_and_other_events() -> None:
    ping = one(e="pp", pp_may="400")
    assert (ping["event_type"], ping["event_name"], ping["properties"]) == ("custom", "page_ping", {"pp_may": "400"})
    played = one(e="se", se_ca="video", se_ac="play", se_la="intro", se_va="3.5")
    assert (played["event_type"], played["event_name"], played["value"]) == ("custom", "play", 3.5)
    assert played["properties"] == {"category": "video", "action": "play", "label": "intro", "value": "3.5"}
    assert one(e="ad")["event_name"] == "ad"


@pytest.mark.parametrize(
    ("se_ac", "params", "expected"),
    [
        ("add-to-basket", {"se_la": "a", "se_pr": "pcs", "se_va": "2.0"}, ("add_to_cart", "a", 2, None)),
        ("Add To Cart", {"se_la": "a", "se_va": "9.5"}, ("add_to_cart", "a", 1, 9.5)),
        ("click", {"se_la": "a"}, ("click", "a", None, None)),
        ("view", {"se_la": "a"}, ("page_view", "a", None, None)),
        ("list view", {"se_la": "a"}, ("impression", "a", None, None)),
        ("transaction", {"se_la": "o", "se_va": "30"}, ("purchase", None, None, 30.0)),
        ("search", {"se_la": "lamp"}, ("search", None, None, None)),
        ("refund", {"se_la": "o"}, ("custom", None, None, None)),
    ],
)
def test_structured_events_of_a_shop(se_ac: str, params: dict[str, str], expected: tuple[Any, ...]) -> None:
    got = one(e="se", se_ca="shop", se_ac=se_ac, **params)
    assert (got["event_type"], got.get("item_id"), got.get("quantity"), got.get("value")) == expected
    assert got["event_name"] == se_ac
    assert got["properties"]["label"] == params["se_la"]


def test_a_transactions_items_are_the_purchases() -> None:
    item = one(e="ti", ti_id="o", ti_sk="a", ti_pr="19.5", ti_qu="2", ti_cu="EUR", ti_nm="Lamp")
    assert (item["event_type"], item["item_id"], item["order_id"]) == ("purchase", "a", "o")
    assert (item["value"], item["quantity"], item["currency"]) == (39.0, 2, "EUR")
    assert item["properties"]["ti_nm"] == "Lamp"
    whole = one(e="tr", tr_id="o", tr_tt="39", tr_cu="EUR")
    assert (whole["event_type"], whole["order_id"], whole["value"]) == ("custom", "o", 39.0)


@pytest.mark.parametrize("encoded", [True, False])
def test_a_list_view_is_an_impression_of_each_product(encoded: bool) -> None:
    shown = action({"type": "list_view", "name": "deals"}, ("product", LAMP), ("product", BULB), encoded=encoded)
    assert [(e["event_type"], e["item_id"], e["list_id"], e["position"]) for e in shown] == [
        ("impression", "lamp-1", "deals", 0),
        ("impression", "bulb-7", "deals", 1),
    ]
    assert {event["event_name"] for event in shown} == {"list_view"}


def test_a_transaction_is_a_purchase_of_each_product() -> None:
    order = {"transaction_id": "o", "revenue": 39.5, "currency": "EUR", "payment_method": "card"}
    bought = action({"type": "transaction"}, ("product", LAMP), ("transaction", order), ("product", BULB))
    assert [(e["event_type"], e["item_id"], e["order_id"], e["value"], e["quantity"]) for e in bought] == [
        ("purchase", "lamp-1", "o", 39.0, 2),
        ("purchase", "bulb-7", "o", 0.5, 1),
    ]
    assert bought[0]["properties"] == {
        "name": "Lamp", "price": 19.5, "position": 1, "order.revenue": 39.5, "order.payment_method": "card",
        "snowplow.schema": f"{ECOMMERCE}/snowplow_ecommerce_action/jsonschema/1-0-0",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "event_type"), [("product_view", "page_view"), ("list_click", "click"), ("remove_from_cart", "custom")]
)
def test_an_action_on_one_product_has_its_item(kind: str, event_type: str) -> None:
    [got] = action({"type": kind}, ("product", LAMP))
    assert (got["event_type"], got["item_id"], got["position"]) == (event_type, "lamp-1", 0)


def test_an_addition_keeps_the_carts_total() -> None:
    [got] = action({"type": "add_to_cart"}, ("product", LAMP), ("cart", {"total_value": 99, "currency": "EUR"}))
    assert (got["event_type"], got["item_id"], got["value"]) == ("add_to_cart", "lamp-1", 39.0)
    assert got["properties"]["cart.total"] == 99


def test_googles_enhanced_ecommerce_is_read_too() -> None:
    field = {"id": "lamp-1", "price": "19.5", "quantity": 2}
    params = described(
        f"{ENHANCED}/action", {"action": "purchase"},
        (f"{ENHANCED}/productFieldObject", field), (f"{ENHANCED}/actionFieldObject", {"id": "o", "revenue": "39"}),
    )  # fmt: skip
    got = one(**params)
    assert (got["event_type"], got["item_id"], got["order_id"], got["value"]) == ("purchase", "lamp-1", "o", 39.0)


@pytest.mark.parametrize(
    ("schema", "data", "event_type", "item_id"),
    [
        ("com.snowplowanalytics.snowplow/link_click", {"targetUrl": "u"}, "click", None),
        ("com.snowplowanalytics.snowplow/site_search", {"terms": ["a"]}, "search", None),
        ("com.snowplowanalytics.snowplow/add_to_cart", {"sku": "a", "quantity": 2, "unitPrice": 3}, "add_to_cart", "a"),
        ("com.snowplowanalytics.mobile/screen_view", {"name": "Home"}, "page_view", None),
        ("com.acme/link_click", {"targetUrl": "u"}, "custom", None),
    ],
)
def test_other_self_describing_events(schema: str, data: dict[str, Any], event_type: str, item_id: str | None) -> None:
    got = one(**described(f"iglu:{schema}", data))
    assert (got["event_type"], got.get("item_id")) == (event_type, item_id)
    assert got["properties"]["snowplow.schema"] == f"iglu:{schema}/jsonschema/1-0-0"
    assert {name for name in data if name not in ("sku", "quantity")} <= got["properties"].keys()


def test_unread_contexts_are_kept() -> None:
    got = one(**described("iglu:com.acme/x", {"a": None}, ("iglu:com.acme/user", {"tier": 1})))
    assert got["properties"]["a"] is None
    assert got["properties"]["snowplow.contexts"] == [
        {"schema": "iglu:com.acme/user/jsonschema/1-0-0", "data": {"tier": 1}}
    ]


@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({}, "e"),
        ({"e": ""}, "e"),
        ({"e": "pv", "dtm": "soon"}, "dtm"),
        ({"e": "pv", "url": {"a": 1}}, "url"),
        ({"e": "se"}, "se_ac"),
        ({"e": "ue"}, "ue_px"),
        ({"e": "ue", "ue_px": "%%%"}, "ue_px"),
        ({"e": "ue", "ue_px": "YQ"}, "ue_px"),
        ({"e": "ue", "ue_pr": "["}, "ue_pr"),
        ({"e": "ue", "ue_pr": "[" * 100_000}, "ue_pr"),
        ({"e": "ue", "ue_pr": "{}"}, "ue_pr.data.schema"),
        ({"e": "ue", "ue_pr": '{"data": 1}'}, "ue_pr.data"),
        ({"e": "pv", "co": "{}"}, "co.data"),
        ({"e": "pv", "co": '{"data": [1]}'}, "co.data.0"),
        ({"e": "pv", "cx": "e30"}, "cx.data"),
    ],
)
def test_what_is_wrong_is_named_as_snowplow_does(params: dict[str, Any], field: str) -> None:
    assert refused(**params) == field
