"""What is common to all events of one request. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from ingest.event.hints import Hints


@dataclass(frozen=True, slots=True)
class Context:
    """What is common to all events of a request. Times are milliseconds since 1970, UTC.

    `write_key`: the key's name. `ip`, `user_agent`, `hints`: the request's own, for live events that bring none.
    `run`: the name of the replay or simulation that sends history. `anonymous`: store no identifier of anybody.
    `drop`: store nothing, for this reason. `flags`: flags of every event.
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
