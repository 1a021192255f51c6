"""Snowplow's tracker protocol: the parameters of one event -> native payloads. Pure.

| e                                    | becomes                                                                     |
| ------------------------------------ | --------------------------------------------------------------------------- |
| pv, pp                               | `page_view`; `custom` named page_ping                                        |
| se of category shop, ecommerce …     | by action, below; `custom` named by the action otherwise                     |
| ti                                   | `purchase` of ti_sk, value ti_pr x ti_qu                                     |
| tr                                   | `custom` named transaction, value tr_tt: its items are the purchases         |
| ue snowplow_ecommerce_action         | by `type`, with the contexts product, cart, transaction …, below             |
| ue enhanced-ecommerce/action         | by `action`, with the contexts productFieldObject, impressionFieldObject …   |
| ue add_to_cart, site_search          | `add_to_cart`, `search`                                                      |
| ue link_click, button_click, screen_view | `click`, `click`, `page_view`                                            |
| ue of any other schema               | `custom` named by the schema                                                 |

| action of se; type of snowplow_ecommerce_action; action of enhanced-ecommerce | read as (see commerce.py)        |
| ------------------------------------------------------------------------------ | -------------------------------- |
| view, product view; product_view; detail                                       | Product Viewed                   |
| click, product click; list_click; click                                        | Product Clicked                  |
| impression, list view; list_view; view                                         | Product List Viewed              |
| add to basket, add to cart; add_to_cart; add                                   | Product Added                    |
| purchase, transaction; transaction; purchase                                   | Order Completed                  |
| search                                                                         | Products Searched                |

eid is message_id; duid, else nuid, tnuid, the session context's userId: anonymous_id; uid: user_id; sid, else the
session context's: client_session_id; ttm as it is, else dtm corrected by stm: occurred_at; url, page, refr: page;
ua, ip; the context http_client_hints: user_agent_data; tv: sdk. A structured event's label is the item (an order's id,
a search's query), its value the quantity where its property is pcs, else the value. Data of a self-describing event are
properties; the other parameters are properties `snowplow.…`, and so are the schema and the contexts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ingest.errors import InvalidEvent
from ingest.event import hints
from ingest.event.context import Context
from ingest.protocols import bodies, commerce, iglu, pixel, values
from ingest.protocols.protocol import Answer, Protocol, Resend, Route, TimeFields

TP2 = "/com.snowplowanalytics.snowplow/tp2"
MAX_QUERY = 4000  # characters
FIELDS = {
    "message_id": "eid",
    "anonymous_id": "duid",
    "user_id": "uid",
    "client_session_id": "sid",
    "occurred_at": "dtm",
    "sent_at": "stm",
    "user_agent": "ua",
    "ip": "ip",
    "sdk": "tv",
    "page": "url",
}

_SHOP = {"shop", "shopping", "ecommerce", "e commerce", "ecomm", "cart"}
_STRUCTURED = {
    "view": "Product Viewed",
    "product view": "Product Viewed",
    "click": "Product Clicked",
    "product click": "Product Clicked",
    "impression": "Product List Viewed",
    "list view": "Product List Viewed",
    "add to basket": "Product Added",
    "add to cart": "Product Added",
    "purchase": "Order Completed",
    "transaction": "Order Completed",
    "search": "Products Searched",
}
_ECOMMERCE = {
    "product_view": "Product Viewed",
    "list_click": "Product Clicked",
    "list_view": "Product List Viewed",
    "add_to_cart": "Product Added",
    "transaction": "Order Completed",
}
_ENHANCED = {
    "detail": "Product Viewed",
    "click": "Product Clicked",
    "view": "Product List Viewed",
    "add": "Product Added",
    "purchase": "Order Completed",
}
_OURS = {"com.snowplowanalytics.snowplow", "com.snowplowanalytics.mobile"}
_PRODUCTS = ("product", "productFieldObject", "impressionFieldObject")
_WHOLES = ("cart", "transaction", "actionFieldObject")
_USED = ("e", "eid", "uid", "sid", "url", "page", "refr", "ua", "tv", "cx", "co", "ue_px", "ue_pr")
_SPLIT = ("Product List Viewed", "Product Added", "Order Completed")

_PAYLOAD_DATA = "iglu:com.snowplowanalytics.snowplow/payload_data/jsonschema/1-0-4"


def read(given: Mapping[str, Any], context: Context) -> list[dict[str, Any]]:
    """The native payloads of an event's parameters, one or more. Raises InvalidEvent, which names the parameter."""
    params = {name: found for name, value in given.items() if (found := values.text(value, name)) is not None}
    attached = iglu.contexts(params)
    kind = params.get("e")
    if kind is None:
        raise InvalidEvent("e", "is missing")
    if kind == "ue":
        events = _self_describing(params, attached)
    elif kind == "se":
        events = _structured(params)
    else:
        events = [_plain(kind, params)]
    common = _common(params, attached, context)
    used = _used(kind, params)
    left: dict[str, Any] = {f"snowplow.{name}": value for name, value in params.items() if name not in used}
    others = [one for one in attached if not one.get("used")]
    if others:
        left["snowplow.contexts"] = others
    return [common | event | {"properties": values.join(event["properties"], left)} for event in events]


def _common(params: Mapping[str, str], attached: Sequence[dict[str, Any]], context: Context) -> dict[str, Any]:
    session = next(
        (values.mapping(one["data"], "cx") for one in attached if iglu.schema_name(one)[1] == "client_session"), {}
    )
    true_time, device_time = _time(params, "ttm"), _time(params, "dtm")
    occurred_at = device_time if true_time is None else true_time
    sent_at = None if true_time is not None else _time(params, "stm")
    if device_time is None and true_time is None:
        occurred_at = sent_at = context.received_at
    elif sent_at is not None and occurred_at is not None:
        sent_at = max(sent_at, occurred_at)  # some trackers cut it to the second
    visitor = (params.get("duid"), params.get("nuid"), params.get("tnuid"), values.loose_text(session.get("userId")))
    page = {"url": params.get("url"), "title": params.get("page"), "referrer": params.get("refr")}
    return {
        "message_id": params.get("eid"),
        "anonymous_id": next((one for one in visitor if one), None),
        "user_id": params.get("uid"),
        "client_session_id": params.get("sid") or values.loose_text(session.get("sessionId")),
        "occurred_at": occurred_at,
        "sent_at": sent_at,
        "page": page,
        "user_agent": params.get("ua"),
        "user_agent_data": _client_hints(attached),
        "ip": values.ip(params.get("ip")),
        "sdk": values.sdk(params.get("tv"), None),
    }


def _client_hints(attached: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """Client hints in the context org.ietf/http_client_hints, whose names are the browser's but for isMobile."""
    given = next((one["data"] for one in attached if iglu.schema_name(one) == ("org.ietf", "http_client_hints")), None)
    return hints.readable({"mobile": given.get("isMobile"), **given}) if isinstance(given, Mapping) else None


def _used(kind: str, params: Mapping[str, str]) -> set[str]:
    """Parameters that have a field of their own or become properties without a prefix."""
    used = {*_USED, *(name for name in params if name.startswith(f"{kind}_"))}
    visitor = next((name for name in ("duid", "nuid", "tnuid") if name in params), None)
    used |= {"ttm"} if "ttm" in params else {"dtm", "stm"}
    return used | ({visitor} if visitor else set()) | ({"ip"} if values.ip(params.get("ip")) else set())


def _time(params: Mapping[str, str], name: str) -> int | None:
    if name not in params:
        return None
    return values.millis(values.number(params[name]) or params[name], name)


def _plain(kind: str, params: Mapping[str, str]) -> dict[str, Any]:
    own: dict[str, Any] = {name: value for name, value in params.items() if name.startswith(f"{kind}_")}
    if kind == "pv":
        return {"event_type": "page_view", "properties": own}
    if kind == "ti":
        price, quantity = values.number(params.get("ti_pr")), values.count(params.get("ti_qu"))
        fields = {
            "event_type": "purchase",
            "event_name": "transaction_item",
            "item_id": params.get("ti_sk"),
            "order_id": params.get("ti_id"),
            "quantity": 1 if quantity is None else quantity,
            "value": None if price is None else round(price * (1 if quantity is None else quantity), 6),
            "currency": values.currency(params.get("ti_cu")),
        }
        return fields | {"properties": own}
    if kind == "tr":
        fields = {
            "event_name": "transaction",
            "order_id": params.get("tr_id"),
            "value": values.number(params.get("tr_tt")),
            "currency": values.currency(params.get("tr_cu")),
        }
        return {"event_type": "custom", "properties": own} | fields
    return {"event_type": "custom", "event_name": "page_ping" if kind == "pp" else kind, "properties": own}


def _structured(params: Mapping[str, str]) -> list[dict[str, Any]]:
    names = {"se_ca": "category", "se_ac": "action", "se_la": "label", "se_pr": "property", "se_va": "value"}
    action = params.get("se_ac")
    if action is None:
        raise InvalidEvent("se_ac", "is missing")
    own: dict[str, Any] = {new: params[old] for old, new in names.items() if old in params}
    meaning = _STRUCTURED.get(commerce.spelled(action)) if commerce.spelled(own.get("category", "")) in _SHOP else None
    if meaning is None:
        return [
            {"event_type": "custom", "event_name": action, "value": values.number(own.get("value")), "properties": own}
        ]
    label, value = own.get("label"), values.number(own.get("value"))
    read_as: dict[str, Any] = {"product_id": label}
    if meaning == "Order Completed":
        read_as = {"order_id": label}
    elif meaning == "Products Searched":
        read_as = {}
        own["query"] = label
    elif meaning == "Product List Viewed":
        read_as = {"products": [{"product_id": label}]}
    pieces = own.get("property") in ("pcs", "pieces", "quantity")
    [event] = commerce.read(meaning, read_as | ({"quantity": value} if pieces else {"value": value}))
    return [event | {"event_name": action, "properties": own}]


def _self_describing(params: Mapping[str, str], attached: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    field = "ue_px" if "ue_px" in params else "ue_pr"
    outer = iglu.document(params, "ue_px", "ue_pr")
    if outer is None:
        raise InvalidEvent("ue_px", "is missing")
    inner = values.mapping(values.mapping(outer, field).get("data"), f"{field}.data")
    vendor, name = iglu.schema_name(inner)
    if not name:
        raise InvalidEvent(f"{field}.data.schema", "is no Iglu URI")
    data = inner.get("data")
    properties: dict[str, Any] = dict(data) if isinstance(data, Mapping) else {"data": data}
    events = _meaning(vendor, name, properties, attached)
    schema = {"snowplow.schema": inner["schema"]}
    return [{"event_name": name} | one | {"properties": values.join(one["properties"], schema)} for one in events]


def _meaning(vendor: str, name: str, data: dict[str, Any], attached: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The native events of a self-describing event, by its schema; by default its data become properties."""
    if name == "snowplow_ecommerce_action":
        return _commerce(_ECOMMERCE, "type", data, attached)
    if vendor == "com.google.analytics.enhanced-ecommerce" and name == "action":
        return _commerce(_ENHANCED, "action", data, attached)
    if vendor not in _OURS:
        return [{"event_type": "custom", "properties": data}]
    if name == "add_to_cart":
        return commerce.read("Product Added", data)
    if name == "remove_from_cart":
        return commerce.read(name, data)
    if name == "screen_view":
        return [{"event_type": "page_view", "event_name": values.loose_text(data.get("name")), "properties": data}]
    types = {"site_search": "search", "link_click": "click", "button_click": "click"}
    return [{"event_type": types.get(name, "custom"), "properties": data}]


def _commerce(
    meanings: Mapping[str, str], key: str, data: dict[str, Any], attached: Sequence[dict[str, Any]]
) -> list[dict[str, Any]]:
    """The native events of an e-commerce action; marks the contexts of its products, cart and order as used."""
    action = values.loose_text(data.get(key)) or ""
    products: list[Any] = []
    properties = {name: value for name, value in data.items() if name != key}
    for one in attached:
        name = iglu.schema_name(one)[1]
        if name in _PRODUCTS:
            products.append(_product(one["data"]))
        elif name in _WHOLES and isinstance(one["data"], Mapping):
            properties = values.join(properties, one["data"])
        else:
            continue
        one["used"] = True
    for old, new in (("transaction_id", "order_id"), ("total_value", "total")):
        if old in properties:
            properties = values.join({n: v for n, v in properties.items() if n != old}, {new: properties[old]})
    meaning = meanings.get(action, action)
    if action == "purchase" and "id" in properties:
        properties = values.join({n: v for n, v in properties.items() if n != "id"}, {"order_id": properties["id"]})
    if "view" in action or "click" in action:
        listed = values.loose_text(properties.pop("name", None)) or values.loose_text(properties.pop("list", None))
        properties |= {"list_id": listed} if listed else {}
    if meaning not in _SPLIT and len(products) == 1 and isinstance(products[0], Mapping):
        properties = values.join(products[0], properties)
    elif products:
        properties = values.join(properties, {"products": products})
    return [event | {"event_name": action or key} for event in commerce.read(meaning, properties)]


def _product(data: object) -> object:
    if not isinstance(data, Mapping) or "product_id" in data or "id" not in data:
        return data
    return {"product_id" if name == "id" else name: value for name, value in data.items()}


def _resend(message: Mapping[str, Any], run: str, line: int | None) -> Resend:
    """By GET, whose status tells whether the event was accepted; by POST if the URL would be too long."""
    texts = values.query_texts(message)
    if sum(len(name) + len(value) for name, value in texts.items()) <= MAX_QUERY:
        return Resend("GET", "/i", {"params": texts | {"run": run}})
    return Resend("POST", TP2, {"params": {"run": run}, "json": {"schema": _PAYLOAD_DATA, "data": [message]}})


PROTOCOL = Protocol(
    "snowplow",
    read,
    FIELDS,
    routes=(
        Route(
            TP2,
            lambda request: bodies.array(request.document, "data"),
            lambda account: Answer(b"ok", "text/plain"),
            read_cut=bodies.cut_array("data"),
        ),
        Route("/i", lambda request: [request.query], pixel.gif, methods=("GET",), is_single=True),
    ),
    time_fields=TimeFields(("dtm",), "stm", "millis", exact="ttm"),
    resend=_resend,
    key_field="aid",
    encoded=("cx", "ue_px"),
)
