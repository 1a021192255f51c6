"""The trackers of PyPI, as a shop's server uses them: python python_clients.py <client> <collector> <write key>.

Prints the steps and message ids as JSON. Each client flushes before the end.
"""

from __future__ import annotations

import json
import os
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

STORY: dict[str, Any] = json.loads(Path(__file__).with_name("story.json").read_text())
PAGE = {"url": STORY["url"], "referrer": STORY["referrer"], "title": STORY["title"]}
SHARED = {"currency": STORY["currency"], "list_id": STORY["list"]}
ORDER = {"order_id": STORY["orderId"], "revenue": STORY["revenue"], "currency": STORY["currency"]}
LAMP = STORY["products"][0]
TRACKS = {
    "list": ("Product List Viewed", {**SHARED, "products": STORY["products"]}),
    "click": ("Product Clicked", {**SHARED, **LAMP}),
    "view": ("Product Viewed", {**SHARED, **LAMP}),
    "cart": ("Product Added", {**SHARED, **LAMP}),
    "order": ("Order Completed", {**ORDER, "products": STORY["products"]}),
    "search": ("Products Searched", {"query": STORY["query"]}),
    "custom": (STORY["custom"]["name"], STORY["custom"]["properties"]),
}
Sent = list[dict[str, str]]


def segment(collector: str, write_key: str) -> Sent:
    from segment.analytics import Client

    return _segment(Client(write_key, host=collector, gzip=True, on_error=_fail), "segment-python")


def rudder(collector: str, write_key: str) -> Sent:
    from rudderstack.analytics.client import Client

    return _segment(Client(write_key, host=collector, on_error=_fail), "rudder-python")


def _segment(client: Any, prefix: str) -> Sent:
    sent: Sent = []
    who = {"user_id": STORY["userId"], "anonymous_id": STORY["anonymousId"]}

    def send(kind: str, step: str, **arguments: Any) -> None:
        message_id = f"{prefix}-{os.getpid()}-{step}"
        queued, _ = getattr(client, kind)(message_id=message_id, **arguments)
        assert queued
        sent.append({"step": step, "id": message_id})

    send("page", "page", name="Lamps", properties=PAGE, **who)
    for step, (event, properties) in TRACKS.items():
        send("track", step, event=event, properties=properties, context={"page": PAGE}, **who)
    send("identify", "identify", traits={"plan": "gold"}, **who)
    send("alias", "alias", previous_id=STORY["previousId"], user_id=STORY["userId"])
    send("group", "group", group_id=STORY["groupId"], traits={"seats": 3}, **who)
    client.flush()
    client.join()
    return sent


def posthog(collector: str, write_key: str) -> Sent:
    from posthog import Posthog

    client = Posthog(write_key, host=collector, gzip=True, on_error=_fail, disable_geoip=False)
    sent: Sent = []

    def send(step: str, event: str, properties: dict[str, Any]) -> None:
        message_id = str(uuid.uuid4())
        shared = {"$session_id": "session-1", "$device_id": STORY["anonymousId"], "$current_url": STORY["url"]}
        client.capture(event, distinct_id=STORY["userId"], properties={**shared, **properties}, uuid=message_id)
        sent.append({"step": step, "id": message_id})

    send("page", "$pageview", {"$referrer": STORY["referrer"], "title": STORY["title"]})
    for step, (event, properties) in TRACKS.items():
        send(step, event, properties)
    identified = client.set(distinct_id=STORY["userId"], properties={"plan": "gold"})
    assert identified
    sent.append({"step": "identify", "id": identified})
    client.alias(previous_id=STORY["previousId"], distinct_id=STORY["userId"])
    client.shutdown()
    return sent


def snowplow(collector: str, write_key: str) -> Sent:
    return _snowplow(collector, write_key, "post")


def snowplow_get(collector: str, write_key: str) -> Sent:
    return _snowplow(collector, write_key, "get")


def _snowplow(collector: str, app_id: str, method: Any) -> Sent:
    from snowplow_tracker import (
        Emitter,
        PagePing,
        PageView,
        SelfDescribing,
        SelfDescribingJson,
        StructuredEvent,
        Subject,
        Tracker,
    )  # fmt: skip

    sent: Sent = []
    delivered: list[Any] = []
    emitter = Emitter(collector, method=method, batch_size=5, on_success=delivered.extend)
    subject = Subject()
    subject.set_domain_user_id(STORY["anonymousId"]).set_user_id(STORY["userId"]).set_domain_session_id("session-1")
    tracker = Tracker("shop", emitter, subject, app_id, encode_base64=method == "post")
    vendor = "iglu:com.snowplowanalytics.snowplow.ecommerce"

    def send(step: str, event: Any) -> None:
        tracker.track(event)
        sent.append({"step": step, "id": event.payload.get()["eid"]})

    def product(given: dict[str, Any]) -> SelfDescribingJson:
        data = {"id" if name == "product_id" else name: value for name, value in given.items()}
        return SelfDescribingJson(f"{vendor}/product/jsonschema/1-0-0", data | {"currency": STORY["currency"]})

    def action(data: dict[str, Any], *contexts: Any) -> SelfDescribing:
        schema = f"{vendor}/snowplow_ecommerce_action/jsonschema/1-0-2"
        return SelfDescribing(SelfDescribingJson(schema, data), context=list(contexts))

    products = [product(one) for one in STORY["products"]]
    order = {"transaction_id": STORY["orderId"], "revenue": STORY["revenue"], "currency": STORY["currency"]}
    transaction = SelfDescribingJson(f"{vendor}/transaction/jsonschema/1-0-0", order)
    send("page", PageView(STORY["url"], STORY["title"], STORY["referrer"]))
    send("ping", PagePing(STORY["url"], STORY["title"], max_y=400))
    send("list", action({"type": "list_view", "name": STORY["list"]}, *products))
    send("click", action({"type": "list_click", "name": STORY["list"]}, products[0]))
    send("view", action({"type": "product_view"}, products[0]))
    send("cart", action({"type": "add_to_cart"}, products[0]))
    send("order", action({"type": "transaction"}, *products, transaction))
    send("struct", StructuredEvent("shop", "add-to-basket", LAMP["product_id"], "pcs", 2))
    rated = SelfDescribingJson("iglu:example.shop/lamp_rated/jsonschema/1-0-0", STORY["custom"]["properties"])
    send("custom", SelfDescribing(rated))
    deadline = time.monotonic() + 30
    while len(delivered) < len(sent):  # what failed waits for a timer of its own
        assert time.monotonic() < deadline, f"{len(delivered)} of {len(sent)} delivered"
        tracker.flush()
        time.sleep(0.2)
    emitter.cancel_flush_timer()
    return sent


def _fail(error: Exception, items: Any = None) -> None:
    print(f"not delivered: {error!r}", file=sys.stderr)
    os._exit(1)


CLIENTS: dict[str, Callable[[str, str], Sent]] = {
    "segment": segment, "rudder": rudder, "posthog": posthog, "snowplow": snowplow, "snowplow_get": snowplow_get,
}  # fmt: skip

if __name__ == "__main__":
    print(json.dumps(CLIENTS[sys.argv[1]](sys.argv[2], sys.argv[3])))
