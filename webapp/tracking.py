"""The data of static/tracker.js, and the headers that allow it to send to the collector alone. Pure."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from infra.errors import ConfigurationError
from infra.settings import Settings
from webapp.snapshot import Item


def write_key(settings: Settings) -> str:
    """The secret of the web app's write key. Raises ConfigurationError if there is no such key."""
    name = settings.webapp.write_key
    try:
        return settings.collector.write_keys[name].secret
    except KeyError:
        known = ", ".join(sorted(settings.collector.write_keys)) or "none"
        raise ConfigurationError(
            [f"CLICKSTREAM_WEBAPP__WRITE_KEY: no key {name!r} in collector.write_keys (there: {known})"]
        ) from None


def collect_url(settings: Settings) -> str:
    """The URL to which browsers send events."""
    return f"{(settings.webapp.collector_url or settings.collector.address).rstrip('/')}/collect"


def page_data(settings: Settings, visitor_id: str, version: str | None, item: Item | None) -> dict[str, Any]:
    """The JSON that each page carries for the tracker.

    `title` is the item's, not the document's: the next export has it as the item's title.
    """
    return {
        "collector": collect_url(settings),
        "writeKey": write_key(settings),
        "visitor": visitor_id,
        "modelVersion": version,
        "itemId": item.item_id if item else None,
        "title": item.title if item else None,
    }


def security_headers(settings: Settings) -> dict[str, str]:
    """For every response: no inline script or style, nothing from elsewhere, events to the collector only."""
    collector = urlsplit(collect_url(settings))
    policy = {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "img-src": "'self' data:",
        "connect-src": f"'self' {collector.scheme}://{collector.netloc}",
        "base-uri": "'none'",
        "form-action": "'self'",
        "frame-ancestors": "'none'",
    }
    return {
        "Content-Security-Policy": "; ".join(f"{name} {value}" for name, value in policy.items()),
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "strict-origin-when-cross-origin",
    }
