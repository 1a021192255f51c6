"""How each protocol's payload becomes events: pure functions of a payload and of the request's `Context`."""

from __future__ import annotations

from dataclasses import dataclass

from ingest.hints import Hints


@dataclass(frozen=True, slots=True)
class Context:
    """What a request says of all its events. Times are milliseconds since 1970, UTC.

    `write_key` is the key's name; `ip`, `user_agent` and `hints` are those of the request, used for live events that
    bring none of their own; `run` names the replay or simulation that sends history. `anonymous`: no identifier of
    anybody is kept; `drop`: nothing at all is, for this reason; `flags` are those of every event.
    """

    write_key: str
    received_at: int
    protocol: str = "native"
    sent_at: int | None = None
    run: str | None = None
    ip: str | None = None
    user_agent: str | None = None
    hints: Hints | None = None
    anonymize_ip: bool = True
    anonymous: bool = False
    drop: str | None = None
    flags: tuple[str, ...] = ()
