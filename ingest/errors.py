"""What can go wrong with an event.

InvalidEvent            the sender's fault: HTTP 400 or a counted reject, and a record in `clicks.rejected`
├── BodyTooLarge        HTTP 413
└── Quarantined         kept aside in `clicks.rejected`, which the sender isn't told: HTTP 200
Unauthorized            no write key, or none that we know: HTTP 401
Forbidden               a page of this origin may not use the key: HTTP 403
TooMany                 more than the key or the address may send now: HTTP 429, the client keeps it
Dropped                 the visitor wants no record of it: counted, and nothing of it is kept
CodecError              bytes that are no event, or of a schema that nobody published
PublishError            the event is neither in Kafka nor in the spool: HTTP 503, the client keeps it
└── SpoolFull           the spool's size limit or the disk is reached
SourceError             a file to replay that is no such file
"""

from __future__ import annotations

from pathlib import Path

from infra.errors import ClickstreamError


class InvalidEvent(ClickstreamError):
    """`field` of a payload is wrong for `reason`."""

    def __init__(self, field: str, reason: str) -> None:
        self.field, self.reason = field, reason
        super().__init__(f"{field}: {reason}")


class BodyTooLarge(InvalidEvent):
    """A body of more than `limit` bytes when decompressed."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        super().__init__("body", f"is larger than {limit} bytes")


class Unauthorized(ClickstreamError):
    """No write key, or none that we know."""

    def __init__(self) -> None:
        super().__init__("the write key is missing or unknown")


class Forbidden(ClickstreamError):
    """Key `write_key` may not be used by pages of `origin`."""

    def __init__(self, write_key: str, origin: str) -> None:
        self.write_key, self.origin = write_key, origin
        super().__init__(f"write key {write_key} may not be used by pages of {origin}")


class TooMany(ClickstreamError):
    """After `seconds` it may come in."""

    def __init__(self, seconds: int) -> None:
        self.seconds = seconds
        super().__init__(f"too many events: send them again in {seconds} s")


class Quarantined(InvalidEvent):
    """Our own rules, not the contract, say that the event waits in `clicks.rejected`."""


class Dropped(ClickstreamError):
    """`reason` is what the count goes by: gpc, dnt or consent."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class CodecError(ClickstreamError):
    """A Kafka value that can't be decoded; `fingerprint` is its schema's, if it named one."""

    def __init__(self, reason: str, fingerprint: bytes | None = None) -> None:
        self.reason, self.fingerprint = reason, fingerprint
        super().__init__(reason)


class PublishError(ClickstreamError):
    """Nothing durable happened; the caller must keep the events."""


class SpoolFull(PublishError):
    """The spool takes no more."""


class SourceError(ClickstreamError):
    """A file of events at `path` can't be read."""

    def __init__(self, path: Path, reason: str) -> None:
        self.path, self.reason = path, reason
        super().__init__(f"{path} {reason}")
