"""How each protocol's messages become events. A protocol is one module here, and one entry of PROTOCOLS."""

from __future__ import annotations

from ingest.protocols import access_log, native, pixel, posthog, segment, snowplow

PROTOCOLS = {
    one.name: one
    for one in (
        native.PROTOCOL,
        access_log.PROTOCOL,
        segment.PROTOCOL,
        posthog.PROTOCOL,
        snowplow.PROTOCOL,
        pixel.PROTOCOL,
    )
}
