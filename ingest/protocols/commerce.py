"""E-commerce events: names of Segment's specification -> native events, one per product. Pure.

| event (Segment v2, and v1)                             | becomes                                              |
| ------------------------------------------------------ | ---------------------------------------------------- |
| Product List Viewed, … Filtered, Viewed Product Category | an `impression` per product, `custom` if none is named |
| Product Clicked                                        | `click`                                              |
| Product Viewed, Viewed Product                         | `page_view` of the item                              |
| Product Added, Added Product                           | `add_to_cart`, one per product                       |
| Order Completed, Completed Order                       | a `purchase` per product, one if none is named       |
| Products Searched                                      | `search`                                             |
| all others                                             | `custom`; item, order and value are read all the same |

Case, blanks, `_` and `-` of a name don't matter; the event keeps it as it came in `event_name`.

| field    | property of the product, else of the event                                                         |
| -------- | -------------------------------------------------------------------------------------------------- |
| item_id  | product_id, productId, id, sku: the first                                                          |
| list_id  | list_id, listId                                                                                    |
| position | position, there from 1 (from 0 if one of the list's is 0), here from 0; in a list: the place in it |
| order_id | order_id, orderId, checkout_id                                                                     |
| currency | currency                                                                                           |
| quantity | quantity; 1 when bought or added without                                                           |
| value    | bought or added: price x quantity; an order without products: revenue, total or value;             |
|          | all others: value or revenue                                                                       |

A product's other properties are the event's. What the whole list, cart or order says is repeated in each of its events
as `list.…`, `cart.…`, `order.…` (`order.revenue`, `order.total`). A property that fits its field moves there; price,
revenue, total and position always stay as they came, and so does what doesn't fit.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ingest.errors import InvalidEvent
from ingest.protocols import values

MAX_PRODUCTS = 250  # each is an event

_TYPES = {
    "product list viewed": "impression",
    "product list filtered": "impression",
    "viewed product category": "impression",
    "product clicked": "click",
    "product viewed": "page_view",
    "viewed product": "page_view",
    "product added": "add_to_cart",
    "added product": "add_to_cart",
    "order completed": "purchase",
    "completed order": "purchase",
    "products searched": "search",
}
_SCOPES = {"impression": "list", "add_to_cart": "cart", "purchase": "order"}  # types that are split by product
_ITEM = ("product_id", "productId", "id", "sku")
_CUSTOM_ITEM = ("product_id", "productId", "sku")  # the id of who knows what else is no item
_LIST = ("list_id", "listId")
_ORDER = ("order_id", "orderId", "checkout_id")
_SEPARATORS = re.compile(r"[\s_-]+")

Fields = dict[str, Any]  # of a native payload


def read(name: str, properties: Mapping[str, Any]) -> list[Fields]:
    """The fields of the native events, one or more, for an event of this name with these properties.

    Each has event_type, properties and the fields of the table. Raises InvalidEvent for products that are none.
    """
    event_type = _TYPES.get(spelled(name), "custom")
    scope = _SCOPES.get(event_type)
    products = _products(properties) if scope else []
    if not scope or not products:
        return [_without_products(event_type, properties)]
    return _per_product(event_type, scope, products, properties)


def spelled(name: str) -> str:
    """The name in lower case, with single blanks between words."""
    return _SEPARATORS.sub(" ", name[:256]).strip().casefold()


def _products(properties: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """The products, each of which may be an id alone. Raises InvalidEvent."""
    given = properties.get("products")
    if given is None:
        return []
    if not isinstance(given, list):
        raise InvalidEvent("properties.products", "is no array")
    if len(given) > MAX_PRODUCTS:
        raise InvalidEvent("properties.products", f"are more than {MAX_PRODUCTS}")
    products: list[Mapping[str, Any]] = []
    for index, product in enumerate(given):
        if isinstance(product, str | int) and not isinstance(product, bool):
            product = {"product_id": product}
        products.append(values.mapping(product, f"properties.products.{index}"))
        if product is None:
            raise InvalidEvent(f"properties.products.{index}", "is no object")
    return products


def _without_products(event_type: str, properties: Mapping[str, Any]) -> Fields:
    fields, left = _item(event_type, properties)
    if event_type == "impression":
        event_type = "custom"  # a list in which nothing was shown
    if event_type == "purchase":
        fields["value"] = _first_number(properties, "revenue", "total", "value")
        left = {name if name in ("products",) else f"order.{name}": value for name, value in left.items()}
    return {"event_type": event_type, "properties": left} | _given(fields)


def _per_product(
    event_type: str, scope: str, products: Sequence[Mapping[str, Any]], properties: Mapping[str, Any]
) -> list[Fields]:
    whole = {name: value for name, value in properties.items() if name != "products"}
    shared: Fields = {
        "list_id": _take(whole, _LIST),
        "order_id": _take(whole, _ORDER),
        "currency": _take_if(whole, "currency", values.currency),
    }
    of_whole = {f"{scope}.{name}": value for name, value in whole.items()}
    zero_based = any(values.count(product.get("position")) == 0 for product in products)
    events = []
    for index, product in enumerate(products):
        fields, left = _item(event_type, product)
        position = values.count(product.get("position"))
        if position is not None:
            fields["position"] = position if zero_based else position - 1
        elif event_type == "impression":
            fields["position"] = index
        if len(products) == 1 and fields.get("value") is None and event_type == "purchase":
            fields["value"] = _first_number(properties, "revenue", "total", "value")
        events.append(
            {"event_type": event_type, "properties": values.join(left, of_whole)} | _given(shared) | _given(fields)
        )
    return events


def _item(event_type: str, properties: Mapping[str, Any]) -> tuple[Fields, dict[str, Any]]:
    """Fields of one product, or of an event about one, and its remaining properties."""
    left = dict(properties)
    fields: Fields = {
        "item_id": _take(left, _CUSTOM_ITEM if event_type in ("custom", "search") else _ITEM),
        "list_id": _take(left, _LIST),
        "order_id": _take(left, _ORDER),
        "currency": _take_if(left, "currency", values.currency),
        "quantity": _take_if(left, "quantity", values.count),
    }
    position = values.count(left.get("position"))
    if position is not None:
        fields["position"] = max(0, position - 1)
    if event_type in ("purchase", "add_to_cart"):
        if fields["quantity"] is None and fields["item_id"] is not None:
            fields["quantity"] = 1
        price = _first_number(left, "price", "unitPrice")
        if price is not None:
            fields["value"] = round(price * (1 if fields["quantity"] is None else fields["quantity"]), 6)
    if fields.get("value") is None:
        fields["value"] = _first_number(left, "value", "revenue")
    return fields, left


def _take(properties: dict[str, Any], names: Sequence[str]) -> str | None:
    """Removes the first property of these names that holds an id, and returns the id."""
    for name in names:
        found = values.loose_text(properties.get(name))
        if found is not None:
            del properties[name]
            return found
    return None


def _take_if(properties: dict[str, Any], name: str, convert: Any) -> Any:
    found = convert(properties.get(name))
    if found is not None:
        del properties[name]
    return found


def _first_number(properties: Mapping[str, Any], *names: str) -> float | None:
    found = (values.number(properties.get(name)) for name in names)
    return next((value for value in found if value is not None), None)


def _given(fields: Fields) -> Fields:
    return {name: value for name, value in fields.items() if value is not None}
