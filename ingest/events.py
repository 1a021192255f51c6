"""The event: a frozen value with the fields of click_event.avsc, and the ids that make retries harmless. No I/O."""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Literal, get_args

EventType = Literal["page_view", "click", "impression", "add_to_cart", "purchase", "search", "identify", "custom"]
EVENT_TYPES: tuple[str, ...] = get_args(EventType)

# Fixed for ever: every event_id that was ever stored derives from it.
_NAMESPACE = uuid.UUID("6a1f5b0e-3c57-5d0b-9a4e-7b1f7f0c2d11")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Page:
    """Where it happened; `path` is without query and fragment."""

    url: str | None = None
    path: str | None = None
    referrer: str | None = None
    title: str | None = None


@dataclass(frozen=True, slots=True)
class Device:
    """What the user agent says of itself; `type` is desktop, mobile, tablet, bot or other."""

    browser: str | None = None
    os: str | None = None
    type: str | None = None
    is_bot: bool = False


@dataclass(frozen=True, slots=True)
class Source:
    """Through which protocol, SDK and replay run an event came."""

    protocol: str
    sdk: str | None = None
    run: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClickEvent:
    """One thing that a visitor did; click_event.avsc documents each field. Times are ms since 1970, UTC."""

    event_id: str
    message_id: str
    event_type: EventType
    event_name: str | None = None
    occurred_at: int
    received_at: int
    sequence: int = 0
    anonymous_id: str | None = None
    user_id: str | None = None
    client_session_id: str | None = None
    page: Page = field(default_factory=Page)
    campaign: Mapping[str, str] = field(default_factory=dict)
    device: Device = field(default_factory=Device)
    ip: str | None = None
    consent: Mapping[str, bool] = field(default_factory=dict)
    write_key: str
    source: Source
    item_id: str | None = None
    list_id: str | None = None
    position: int | None = None
    propensity: float | None = None
    impression_id: str | None = None
    model_version: str | None = None
    order_id: str | None = None
    value: float | None = None
    currency: str | None = None
    quantity: int | None = None
    experiments: Mapping[str, str] = field(default_factory=dict)
    properties: Mapping[str, str] = field(default_factory=dict)
    flags: tuple[str, ...] = ()

    @property
    def key(self) -> bytes | None:
        """Kafka's key: one visitor's events share a partition; None spreads events that have no visitor."""
        visitor = self.anonymous_id or self.user_id
        return visitor.encode() if visitor else None


def event_id(write_key: str, message_id: str, index: int = 0) -> str:
    """Identity of the `index`-th event of a message: a retry gets the same, another key can never."""
    return str(uuid.uuid5(_NAMESPACE, json.dumps([write_key, message_id, index], ensure_ascii=False)))


def new_message_id() -> str:
    """A UUIDv7 (RFC 9562, 5.7): 48 bits of milliseconds, then random bits, so ids sort by time."""
    value = (time.time_ns() // 1_000_000) << 80 | int.from_bytes(os.urandom(10), "big")
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return str(uuid.UUID(int=value))


def to_millis(moment: datetime) -> int:
    """Milliseconds since 1970 of an aware datetime, exact."""
    return (moment - _EPOCH) // timedelta(milliseconds=1)
