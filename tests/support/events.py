"""Events for tests: each states only what matters to it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from ingest.event import codec
from ingest.event.event import ClickEvent, Device, Page, Source, event_id, to_millis

NOON = datetime(2015, 5, 17, 12, tzinfo=UTC)
_HOUR = 3_600_000

# Every field set, each to something other than its default.
FULL = ClickEvent(
    event_id="9e99507d-ab2e-5ac6-ba98-09605181061e",
    message_id="m1",
    event_type="purchase",
    event_name="Ordre terminé",
    occurred_at=1431857103000,
    received_at=1795245567816,
    sequence=70000,
    anonymous_id="visitor-1",
    user_id="user-1",
    client_session_id="session-1",
    page=Page("https://shop.example/a?b=c", "/a", "https://search.example/", "Ä title"),
    campaign={"source": "news", "medium": "mail"},
    device=Device("Chrome", "Windows", "desktop", True),
    ip="198.51.100.0",
    consent={"analytics": True, "ads": False},
    write_key="demo",
    source=Source("native", "js-1.0", "history"),
    item_id="item-1",
    list_id="home",
    position=3000,
    propensity=0.25,
    impression_id="i1",
    model_version="als-7",
    order_id="o1",
    value=-12.5,
    currency="EUR",
    quantity=2,
    experiments={"carousel": "b"},
    properties={"color": '"red"', "sizes": "[1,2]"},
    flags=("odd_clock", "truncated"),
)


def minimal(message: str = "m", **fields: Any) -> ClickEvent:
    """Only what every event has: a page view of 2015-05-17, received a second after it; `event_id` is made of
    `message`."""
    occurred_at = fields.get("occurred_at", 1_431_857_100_000)
    required = {
        "event_id": event_id("demo", message),
        "message_id": message,
        "event_type": "page_view",
        "occurred_at": occurred_at,
        "received_at": min(occurred_at, 2**45) + 1000,  # far ahead; not beyond what is a time
        "write_key": "demo",
        "source": Source(protocol="native"),
    }
    return ClickEvent(**required | fields)


def event(message: str) -> bytes:
    """A minimal event as Kafka's value; `message` is its message_id."""
    return codec.encode(minimal(message))


def click(message_id: str = "m", **fields: Any) -> ClickEvent:
    """A page view of ann on /a."""
    base = {"anonymous_id": "ann", "page": Page(path="/a"), "device": Device(type="desktop"), "item_id": "/a"}
    return minimal(message_id, **base | fields)


def view(visitor: int, item: int, hour: float, **fields: Any) -> ClickEvent:
    path = f"/{item}"
    base = {"message_id": f"{visitor}-{item}-{hour}", "anonymous_id": f"v{visitor}", "item_id": path}
    page = Page(path=path, title=f"Item {item}")
    return click(**base | {"page": page, "occurred_at": to_millis(NOON) + int(hour * _HOUR)} | fields)
