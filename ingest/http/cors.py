"""CORS: which origins' pages may send events with credentials. Pure."""

from __future__ import annotations

from urllib.parse import urlsplit

from werkzeug.datastructures import Headers

from infra.settings import Settings

MAX_AGE_SECONDS = 600


def allowed_origins(settings: Settings) -> frozenset[str]:
    """The origins in the settings, and the storefront's, as 127.0.0.1 and localhost. `*` allows any."""
    own = urlsplit(settings.webapp.address)
    twin = {"127.0.0.1": "localhost", "localhost": "127.0.0.1"}.get(own.hostname or "")
    origins = {*settings.collector.allowed_origins, f"{own.scheme}://{own.netloc}"}
    if twin:
        origins.add(f"{own.scheme}://{twin}" + (f":{own.port}" if own.port else ""))
    return frozenset(origins)


def headers(method: str, asked: Headers, allowed: frozenset[str]) -> dict[str, str]:
    """The CORS headers of a response. `asked`: the request's headers.

    The origin is echoed, never `*`, which browsers refuse with credentials, as Snowplow's tracker and sendBeacon send
    them. Requested headers are echoed too, as trackers' retries add their own (X-Retry-Count, rsa-…).
    """
    origin = asked.get("Origin")
    answer = {"Vary": "Origin"}
    if not origin or not (origin in allowed or "*" in allowed):
        return answer
    answer |= {
        "Access-Control-Allow-Origin": origin,
        "Access-Control-Allow-Credentials": "true",
        "Access-Control-Expose-Headers": "Retry-After",
    }
    if method == "OPTIONS":
        answer |= {
            "Access-Control-Allow-Methods": "GET, POST, OPTIONS",
            "Access-Control-Allow-Headers": asked.get("Access-Control-Request-Headers")
            or "Authorization, Content-Type, X-Write-Key",
            "Access-Control-Max-Age": str(MAX_AGE_SECONDS),
        }
    return answer
