"""What a protocol is: how its requests become messages, its messages events, and its rejects requests again. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from ingest.event.context import Context
from ingest.protocols.bodies import read_object

WRITE_KEYS = ("writeKey", "write_key", "api_key")  # fields of a body or query that hold the request's write key


@dataclass(frozen=True, slots=True)
class TrackerRequest:
    """A request as a route reads it.

    `query`: the URL's parameters, without write keys. `document`: the object that the body of a POST holds, else {}.
    `max_bytes`: how large the request's events may be together.
    """

    query: Mapping[str, Any]
    document: dict[str, Any]
    referrer: str | None
    max_bytes: int


@dataclass(frozen=True, slots=True)
class Answer:
    """The body of an HTTP 200: a JSON object, or bytes of `content_type`."""

    body: Mapping[str, object] | bytes
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Route:
    """A path that a protocol's clients send to.

    `messages`: the request's messages; raises InvalidEvent, which refuses the request. `answer`: what the clients
    expect, given the counts and errors of `ingest.convert.native.account`. `document`: the object that a POST's body
    holds. `sent_at`: the object's field with the sender's clock. `is_single`: a request is one message, whose refusal
    is a 400. `read_cut`: (cut body, max messages) -> the whole messages and the text that is left, for clients that
    would repeat a 413 for ever.
    """

    path: str
    messages: Callable[[TrackerRequest], list[Any]]
    answer: Callable[[Mapping[str, object]], Answer]
    methods: tuple[str, ...] = ("POST",)
    document: Callable[[bytes], dict[str, Any]] = read_object
    sent_at: str = ""
    is_single: bool = False
    read_cut: Callable[[bytes, int], tuple[list[Any], str]] | None = None


@dataclass(frozen=True, slots=True)
class TimeFields:
    """A message's fields of time, for correcting a reject's by the clock of its first arrival.

    `occurred_at`: the first that is present counts. `sent_at`: the sender's clock when it sent. `form`: how a time is
    written. `exact`: a field whose time needs no correction. `required`: a message without a time is refused.
    """

    occurred_at: tuple[str, ...]
    sent_at: str
    form: Literal["json", "millis", "iso"]
    exact: str = ""
    required: bool = False


@dataclass(frozen=True, slots=True)
class Resend:
    """A request that sends one reject's message again; `options` are those of `requests.request`."""

    method: str
    path: str
    options: Mapping[str, Any]


def _read_nothing(message: Mapping[str, Any], context: Context) -> list[dict[str, Any]]:
    raise NotImplementedError("its messages are read by ingest.convert.native")


@dataclass(frozen=True, slots=True)
class Protocol:
    """One protocol; `ingest.protocols.PROTOCOLS` has them all.

    `read`: a message -> native payloads, one or more; raises InvalidEvent. `fields`: a native field -> the sender's
    name of it, where it differs. `key_field`: a message's field that holds its write key, for clients that give no key
    otherwise. `encoded`: parameters that hold JSON in base64.

    A reject is sent again by `batch_path` ({"batch": [messages]}), else by `resend` (message, run, line) -> request.
    `time_fields`: None where a message is a line of text, which can be neither mended nor corrected.
    """

    name: str
    read: Callable[[Mapping[str, Any], Context], list[dict[str, Any]]] = _read_nothing
    fields: Mapping[str, str] = field(default_factory=dict)
    routes: Sequence[Route] = ()
    time_fields: TimeFields | None = None
    batch_path: str = ""
    resend: Callable[[Any, str, int | None], Resend] | None = None
    key_field: str = ""
    encoded: tuple[str, ...] = ()

    def sender_field(self, name: str) -> str:
        """The sender's name of a native field."""
        return self.fields.get(name, name)
