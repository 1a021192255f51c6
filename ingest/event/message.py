"""Messages of a request or file, before they are parsed as events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec


class Message(msgspec.Struct, frozen=True, gc=False):
    """One message: `number` is its index from 0, or its line number as counted by the sender.

    `payload` is its JSON value, or its text if it is no JSON; `problem` then says so.
    """

    number: int
    payload: object
    problem: str | None = None
    text: str = ""  # the line itself


class Messages(msgspec.Struct, frozen=True, gc=False):
    """The messages of a body, and the fields of its envelope. `kind`: "lines" if `number` is a line number."""

    kind: Literal["single", "batch", "lines"]
    messages: Sequence[Message]
    envelope: Mapping[str, object]
