"""Settings of the collector's policy: who may send, how much, and what may be kept of whom."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)


def _origin(value: str) -> str:
    """As browsers send it: scheme and host in small letters, no path."""
    parts = urlsplit(value)
    if value != "*" and (not parts.scheme or not parts.netloc or parts.path.strip("/") or parts.query):
        raise ValueError("is no origin such as https://shop.example")
    return value.rstrip("/").lower()


def _rate(value: str) -> str:
    if value:
        from limits import parse_many

        parse_many(value)  # ValueError, with the reason
    return value


def _network(value: str) -> str:
    return str(ipaddress.ip_network(value, strict=False))


Origin = Annotated[str, AfterValidator(_origin)]
Rate = Annotated[str, AfterValidator(_rate)]
Network = Annotated[str, AfterValidator(_network)]
Signal = Literal["ignore", "anonymous", "drop"]
Verdict = Literal["allow", "warn", "quarantine", "reject"]


class Section(BaseModel):
    """A part of the settings: frozen, and without any field that is not known."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class WriteKey(Section):
    """What a sender shows. In a file either the secret alone, or a table of these fields.

    `origins`: pages that may use it beside `collector.allowed_origins`; with any, pages elsewhere may not.
    `rate`: events, as in `collector.rates`, which it replaces for this key.
    """

    secret: Annotated[str, Field(min_length=1)]
    origins: tuple[Origin, ...] = ()
    rate: Rate = ""

    @model_validator(mode="before")
    @classmethod
    def _secret_alone(cls, value: object) -> object:
        return {"secret": value} if isinstance(value, str) else value

    @model_serializer(mode="wrap")
    def _as_written(self, dump: SerializerFunctionWrapHandler) -> Any:
        return dump(self) if self.origins or self.rate else self.secret


class Cookie(Section):
    """The first-party cookie that names a browser whose events bring no visitor. `days` 0: no cookie.

    `session_minutes`: a second cookie gives such a browser a session that ends after this inactivity; 0: none.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")] = "clickstream_id"
    days: Annotated[int, Field(ge=0, le=400)] = 395
    domain: Annotated[str, Field(pattern=r"^[A-Za-z0-9.-]*$")] = ""
    same_site: Literal["Lax", "Strict", "None"] = "Lax"
    secure: bool = True
    http_only: bool = True
    session_minutes: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _browsers_take_it(self) -> Self:
        if self.same_site == "None" and not self.secure:
            raise ValueError('same_site "None" needs secure = true, or browsers refuse the cookie')
        return self


class Privacy(Section):
    """What may be kept. `anonymous`: no identifier of anybody; `gpc`, `dnt`: what a browser's wish does.

    `consent_category`: the entry of an event's consent without which `without_consent` is done; `assume_consent`
    is for events that say nothing of it. `never_store` and `hashed` are names of properties, `*` within them
    stands for anything; `salt` makes the hashes. `internal_networks` are marked, never dropped.
    """

    anonymous: bool = False
    gpc: Signal = "ignore"
    dnt: Signal = "ignore"
    consent_category: str = ""
    assume_consent: bool = False
    without_consent: Literal["anonymous", "drop"] = "anonymous"
    never_store: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    hashed: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    salt: str = ""
    internal_networks: tuple[Network, ...] = ()

    @model_validator(mode="after")
    def _hashes_are_salted(self) -> Self:
        if self.hashed and len(self.salt) < 16:
            raise ValueError("hashed needs a secret salt of 16 characters or more: hashes of e-mails can be guessed")
        return self


class Rates(Section):
    """Events that are taken, such as "1000/second" or "50/second; 100000/day". Empty: as many as come.

    `key`: of each write key; `ip`: of each address; `url`: where they are counted (redis://… for several processes).
    """

    key: Rate = ""
    ip: Rate = ""
    url: str = "memory://"


class TrackingPlan(Section):
    """`folder` holds a JSON Schema per event name, <name>.json; what happens to events that don't follow it."""

    folder: str = ""
    unknown_event: Verdict = "warn"
    unknown_property: Verdict = "warn"
    invalid: Verdict = "quarantine"
