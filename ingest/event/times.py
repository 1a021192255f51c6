"""Times as senders write them -> milliseconds since 1970, UTC. Pure."""

from __future__ import annotations

from datetime import datetime

from ingest.event.event import to_millis

YEAR_1, YEAR_9999 = -62_135_596_800_000, 253_402_300_799_999  # the range of every timestamp type downstream


def parse_time(value: object) -> int:
    """Milliseconds since 1970 of an RFC 3339 string with a zone, or of a number. Raises ValueError."""
    if type(value) is int:
        millis = value
    elif isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value.upper())  # RFC 3339 allows t and z
        except ValueError:
            raise ValueError("is neither RFC 3339 nor milliseconds since 1970") from None
        if moment.tzinfo is None:
            raise ValueError("has no time zone")
        millis = to_millis(moment)
    elif isinstance(value, float):
        if value != value or abs(value) > 1e15:
            raise ValueError("lies outside the years 1 to 9999")
        millis = round(value)
    else:
        raise ValueError("is neither RFC 3339 nor milliseconds since 1970")
    if not YEAR_1 <= millis <= YEAR_9999:
        raise ValueError("lies outside the years 1 to 9999")
    return millis
