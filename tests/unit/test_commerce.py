"""What e-commerce events mean: the table of ingest/protocols/commerce.py, row by row."""

from __future__ import annotations

from typing import Any

import pytest

from ingest.errors import InvalidEvent
from ingest.protocols import commerce

LAMP = {"product_id": "lamp-1", "sku": "L1", "name": "Lamp", "price": 19.5, "quantity": 2, "position": 1}
BULB = {"product_id": "bulb-7", "price": "0.1", "position": 2}


@pytest.mark.parametrize(
    ("name", "event_type"),
    [
        ("Product Clicked", "click"),
        ("product_clicked", "click"),
        (" Product-Viewed ", "page_view"),
        ("Viewed Product", "page_view"),
        ("Product Added", "add_to_cart"),
        ("Added Product", "add_to_cart"),
        ("Order Completed", "purchase"),
        ("Completed Order", "purchase"),
        ("Products Searched", "search"),
        ("Product Removed", "custom"),
        ("Order Refunded", "custom"),
        ("Lamp Rated", "custom"),
    ],
)
def test_a_name_has_a_type_however_it_is_spelled(name: str, event_type: str) -> None:
    [event] = commerce.read(name, LAMP)
    assert event["event_type"] == event_type
    assert event["item_id"] == "lamp-1"


@pytest.mark.parametrize("name", ["Product List Viewed", "Product List Filtered", "Viewed Product Category"])
def test_a_list_is_an_impression_of_each_product_at_its_place(name: str) -> None:
    events = commerce.read(name, {"list_id": "deals", "category": "light", "products": [LAMP, BULB]})
    assert [(e["event_type"], e["item_id"], e["list_id"], e["position"]) for e in events] == [
        ("impression", "lamp-1", "deals", 0),
        ("impression", "bulb-7", "deals", 1),
    ]
    assert events[1]["properties"] == {"price": "0.1", "position": 2, "list.category": "light"}


@pytest.mark.parametrize(
    ("given", "places"),
    [([1, 2], [0, 1]), ([0, 1], [0, 1]), ([25, 26], [24, 25]), ([None, None], [0, 1]), (["3", 1], [2, 0])],
)
def test_places_count_from_0_here_and_from_1_there_unless_they_show_otherwise(
    given: list[Any], places: list[int]
) -> None:
    products = [{"product_id": "a", "position": given[0]}, {"product_id": "b", "position": given[1]}]
    events = commerce.read("Product List Viewed", {"products": products})
    assert [event["position"] for event in events] == places


def test_an_order_is_a_purchase_of_each_line_and_keeps_its_totals() -> None:
    order = {"order_id": "o1", "revenue": 39.1, "total": 45.0, "currency": "EUR", "products": [LAMP, BULB]}
    lamp, bulb = commerce.read("Order Completed", order)
    assert lamp == {
        "event_type": "purchase",
        "item_id": "lamp-1",
        "order_id": "o1",
        "currency": "EUR",
        "quantity": 2,
        "position": 0,
        "value": 39.0,
        "properties": {
            "sku": "L1", "name": "Lamp", "price": 19.5, "position": 1, "order.revenue": 39.1, "order.total": 45.0,
        },
    }  # fmt: skip
    assert (bulb["value"], bulb["quantity"], bulb["order_id"]) == (0.1, 1, "o1")


def test_an_order_without_products_is_one_purchase_of_its_revenue() -> None:
    [event] = commerce.read("Order Completed", {"order_id": "o1", "revenue": 30, "total": 36, "currency": "eur"})
    assert (event["event_type"], event["order_id"], event["value"], event["currency"]) == (
        "purchase",
        "o1",
        30.0,
        "eur",
    )
    assert event["properties"] == {"order.revenue": 30, "order.total": 36}


def test_the_only_line_of_an_order_without_a_price_is_worth_its_revenue() -> None:
    [event] = commerce.read("Order Completed", {"revenue": 12, "products": [{"product_id": "a"}]})
    assert (event["value"], event["quantity"]) == (12.0, 1)
    first, second = commerce.read("Order Completed", {"revenue": 12, "products": ["a", "b"]})
    assert "value" not in first and "value" not in second, "nobody knows whose it is"


def test_a_list_that_names_no_product_showed_none() -> None:
    [event] = commerce.read("Product List Viewed", {"list_id": "deals", "products": []})
    assert (event["event_type"], event["list_id"]) == ("custom", "deals")


def test_products_may_be_ids_alone() -> None:
    events = commerce.read("Product Added", {"products": ["a", 7]})
    assert [(event["item_id"], event["quantity"]) for event in events] == [("a", 1), ("7", 1)]


@pytest.mark.parametrize(
    ("products", "field"),
    [({}, "properties.products"), ([None], "properties.products.0"), (["a", [1]], "properties.products.1")],
)
def test_products_that_are_none_are_refused(products: object, field: str) -> None:
    with pytest.raises(InvalidEvent) as caught:
        commerce.read("Order Completed", {"products": products})
    assert caught.value.field == field


def test_a_list_of_too_many_products_is_refused() -> None:
    products = ["p"] * (commerce.MAX_PRODUCTS + 1)
    with pytest.raises(InvalidEvent):
        commerce.read("Product List Viewed", {"products": products})
    assert len(commerce.read("Product List Viewed", {"products": products[1:]})) == commerce.MAX_PRODUCTS


def test_what_fits_no_field_stays_a_property_as_it_came() -> None:
    odd = {"product_id": {"a": 1}, "sku": "s", "currency": "euro", "quantity": 1.5, "value": "much", "position": -1}
    [event] = commerce.read("Product Clicked", odd)
    assert event == {
        "event_type": "click",
        "item_id": "s",
        "properties": {name: value for name, value in odd.items() if name != "sku"},
    }


def test_the_id_of_an_unknown_event_is_no_item() -> None:
    [event] = commerce.read("Ticket Opened", {"id": 7, "revenue": "3"})
    assert event == {"event_type": "custom", "value": 3.0, "properties": {"id": 7, "revenue": "3"}}
