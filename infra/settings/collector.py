"""Settings of the collector: addresses, write keys, limits and privacy."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from infra.settings.section import Name, OptionalPath, Port, Section


def _origin(value: str) -> str:
    """An origin as browsers send it: scheme and host in lower case, without path. Raises ValueError."""
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


class WriteKey(Section):
    """A write key: in a file either its secret alone, or a table of these fields.

    `origins`: origins whose pages may use it, besides `collector.allowed_origins`; if there are any, no others may.
    `rate`: a limit for this key that replaces `collector.rates.key`.
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
    """The first-party cookie of browsers whose events have no visitor id. `days` 0: no cookie.

    `session_minutes`: the inactivity that ends a session, which a second cookie holds; 0: no sessions.
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
    """What may be stored. `anonymous`: no identifier of anybody. `gpc`, `dnt`: the effect of these browser signals.

    `consent_category`: the entry of an event's consent that is required, or else `without_consent` applies;
    `assume_consent`: the consent of events that lack the entry. `never_store`, `hashed`: names of properties, in which
    `*` matches anything. `salt`: the secret of the hashes. `internal_networks`: their events are flagged.
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
    """Rate limits in events, such as "1000/second" or "50/second; 100000/day". Empty: no limit.

    `key`: per write key. `ip`: per address. `url`: the store of the counts (redis://… for several processes).
    """

    key: Rate = ""
    ip: Rate = ""
    url: str = "memory://"


class TrackingPlan(Section):
    """`folder`: holds a JSON Schema per event name, <name>.json. The verdicts are for events that violate it."""

    folder: str = ""
    unknown_event: Verdict = "warn"
    unknown_property: Verdict = "warn"
    invalid: Verdict = "quarantine"


class Tls(Section):
    """HTTPS: PEM files of the certificate with its chain, of its key, and of the CA that the platform's clients trust.

    Without `ca` they trust certifi's CAs.
    """

    certificate: OptionalPath = None
    key: OptionalPath = None
    ca: OptionalPath = None

    @model_validator(mode="after")
    def _both_are_there(self) -> Self:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key go together")
        for file in (self.certificate, self.key, self.ca):
            if file is not None and not file.is_file():
                raise ValueError(f"there is no file {file}")
        return self


class Collector(Section):
    """The HTTP collector. `write_keys`: a key's name, which is stored with each event -> the secret that clients send.

    `unknown_write_key`: refuse events of an unknown key, or quarantine them in `clicks.rejected`.
    """

    url: str = ""
    host: str = "127.0.0.1"
    port: Port = 8000
    tls: Tls = Tls()
    workers: Annotated[int, Field(ge=1)] = 2
    threads: Annotated[int, Field(ge=1)] = 16  # of each worker
    drain_seconds: Annotated[float, Field(ge=0)] = 1.0
    write_keys: dict[Name, WriteKey] = Field(default_factory=lambda: {"demo": WriteKey(secret="demo")})
    unknown_write_key: Literal["refuse", "quarantine"] = "refuse"
    allowed_origins: list[Origin] = Field(default_factory=list)
    anonymize_ip: bool = True
    max_body_bytes: Annotated[int, Field(ge=1024)] = 8 * 1024 * 1024
    max_events: Annotated[int, Field(ge=1)] = 10_000
    max_depth: Annotated[int, Field(ge=2, le=200)] = 32
    ack_timeout_seconds: Annotated[float, Field(gt=0)] = 2.0
    spool_max_bytes: Annotated[int, Field(ge=0)] = 1024**3
    spool_headroom_bytes: Annotated[int, Field(ge=1024**2)] = 64 * 1024**2
    spool_max_age_seconds: Annotated[float, Field(gt=0)] = 7 * 86400.0
    cookie: Cookie = Cookie()
    privacy: Privacy = Privacy()
    rates: Rates = Rates()
    tracking_plan: TrackingPlan = TrackingPlan()

    @field_validator("write_keys")
    @classmethod
    def _secrets_differ(cls, keys: dict[str, WriteKey]) -> dict[str, WriteKey]:
        if len({key.secret for key in keys.values()}) < len(keys):
            raise ValueError("two write keys have the same secret")
        return keys

    @property
    def address(self) -> str:
        scheme = "https" if self.tls.certificate else "http"
        return (self.url or f"{scheme}://{self.host}:{self.port}").rstrip("/")

    @property
    def verify(self) -> bool | str:
        """The `verify` option of `requests`."""
        return str(self.tls.ca) if self.tls.ca else True
