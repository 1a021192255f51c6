"""Privacy rules: Do-Not-Track and GPC, consent, anonymous mode, names that are never stored. Pure.

    context = rules.request(context, request.headers)             # once per request
    payload, context = rules.apply(payload, context, counts)      # once per native payload, before it is parsed
    rejected.encode(reject, …, scrub=rules.scrubber(context))     # rejects obey the same rules

In anonymous mode an event keeps no visitor, user, session or address, no click id, and no property named like an
identifier; an identify message keeps no property at all. Ids of orders and impressions are kept: they name no person.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

from werkzeug.datastructures import Headers

from infra.settings.collector import Privacy, Signal
from ingest.errors import Dropped
from ingest.event.context import Context
from ingest.event.event import ClickEvent
from ingest.event.scrub import Scrubber

# Fields of a native payload; all others become properties.
PAYLOAD_FIELDS = {*ClickEvent.__annotations__, "user_agent", "user_agent_data", "sdk", "sent_at"}
ANONYMOUS, REDACTED, INTERNAL = "anonymous", "redacted", "internal"  # flags of events

# Names under which trackers send ids of people; ingest/event/scrub.py compares them.
IDENTIFIERS = (
    "anonymous_id", "user_id", "client_session_id", "session_id", "previous_session_id", "previous_id", "window_id",
    "visitor_id", "client_id", "customer_id", "member_id", "account_id", "group_id", "device_id", "distinct_id",
    "anon_distinct_id", "alias", "traits", "set", "set_once", "email", "phone", "username", "first_name", "last_name",
    "ip", "ip_address", "duid", "nuid", "tnuid", "uid", "sid", "domain_userid", "network_userid", "domain_sessionid",
    "first_event_id", "advertising_id", "idfa", "idfv", "gaid", "aaid", "android_id", "apple_idfa", "apple_idfv",
    "android_idfa", "openidfa", "fbp", "fbc", "gclid", "gbraid", "wbraid", "dclid", "fbclid", "msclkid", "ttclid",
    "twclid", "li_fat_id",
)  # fmt: skip

_STRUCTURE = {"event_type", "occurred_at", "sent_at", "message_id", "sequence", "consent", "experiments"}
_CONTAINERS = {"properties", "page", "campaign"}
_YES, _NO = (True, 1, "1", "true"), (False, 0, "0", "false")


class Rules:
    """The privacy settings, compiled; `apply` is cheap if none is set."""

    def __init__(self, settings: Privacy) -> None:
        self._settings = settings
        lists = bool(settings.never_store or settings.hashed)
        self._known = Scrubber(settings.never_store, settings.hashed, settings.salt) if lists else None
        self._anonymous = Scrubber((*settings.never_store, *IDENTIFIERS), settings.hashed, settings.salt)
        self._signals: list[tuple[str, str, Signal]] = [
            ("Sec-GPC", "gpc", settings.gpc),
            ("DNT", "dnt", settings.dnt),
        ]
        self._signals = [signal for signal in self._signals if signal[2] != "ignore"]
        networks = [ipaddress.ip_network(network) for network in settings.internal_networks]
        self._is_internal = lru_cache(maxsize=16_384)(lambda ip: _within(ip, networks)) if networks else None

    def request(self, context: Context, headers: Mapping[str, str] | Headers) -> Context:
        """The context with the wishes in the request's headers; a replay's are the sender's, and ignored."""
        anonymous = self._settings.anonymous or "SP-Anonymous" in headers
        drop = None
        if not context.run:
            for header, reason, what in self._signals:
                if headers.get(header) == "1":
                    anonymous = True
                    drop = drop or (reason if what == "drop" else None)
            if self._is_internal and context.ip and self._is_internal(context.ip):
                context = replace(context, flags=(*context.flags, INTERNAL))
        if not anonymous:
            return context
        return replace(context, anonymous=True, drop=drop, ip=None)

    def apply(
        self, payload: Mapping[str, Any], context: Context, counts: Counter[str]
    ) -> tuple[Mapping[str, Any], Context]:
        """The native payload as it may be stored, and its context.

        Adds to `counts` under anonymous, dropped and hashed. Raises Dropped, and RecursionError for deep nesting.
        """
        if context.drop:
            raise Dropped(context.drop)
        anonymous = context.anonymous
        if "anonymous" in payload and payload["anonymous"] in (*_YES, *_NO):
            anonymous = anonymous or payload["anonymous"] in _YES
            payload = {name: value for name, value in payload.items() if name != "anonymous"}
        if self._settings.consent_category and not self._consents(payload.get("consent")):
            if self._settings.without_consent == "drop":
                raise Dropped("consent")
            anonymous = True
        if not (anonymous or self._known or self._is_internal):
            return payload, context
        return self._changed(payload, context, anonymous, counts)

    def scrubber(self, context: Context) -> Callable[[Any], Any]:
        """A function that removes from a refused payload, of any protocol or malformed, what may not be stored.

        A payload whose consent can't be read counts as without consent. One that would be dropped becomes None.
        """

        def scrub(value: Any) -> Any:
            given = value if isinstance(value, dict) else {}
            anonymous = context.anonymous or given.get("anonymous") in _YES
            if self._settings.consent_category and not self._consents(given.get("consent")):
                anonymous = True
                if self._settings.without_consent == "drop":
                    return None
            scrubber = self._anonymous if anonymous else self._known
            if context.drop or scrubber is None:
                return None if context.drop else value
            counts: Counter[str] = Counter()
            if isinstance(value, str):
                return scrubber.text(value, counts)
            kept = scrubber.value(value, counts)
            return {**kept, "anonymous_id": kept.get("anonymous_id")} if "anonymous_id" in given else kept

        return scrub

    def _changed(
        self, payload: Mapping[str, Any], context: Context, anonymous: bool, counts: Counter[str]
    ) -> tuple[Mapping[str, Any], Context]:
        flags: list[str] = []
        if self._is_internal and isinstance(payload.get("ip"), str) and self._is_internal(payload["ip"]):
            flags.append(INTERNAL)
        if self._known:
            found: Counter[str] = Counter()
            payload = _clean(payload, self._known, found)
            if found:
                flags.append(REDACTED)
                counts.update(found)
        if anonymous:
            payload = {**_clean(payload, self._anonymous, Counter()), "anonymous_id": None}
            if payload.get("event_type") == "identify":
                payload["properties"] = {}
            flags.append(ANONYMOUS)
            counts["anonymous"] += 1
        flags = [flag for flag in flags if flag not in context.flags]
        if flags or (anonymous and not context.anonymous):
            ip = None if anonymous else context.ip
            context = replace(context, flags=(*context.flags, *flags), anonymous=anonymous, ip=ip)
        return payload, context

    def _consents(self, consent: object) -> bool:
        given = consent.get(self._settings.consent_category) if isinstance(consent, Mapping) else None
        return self._settings.assume_consent if given is None else given is True


def _clean(payload: Mapping[str, Any], scrubber: Scrubber, counts: Counter[str]) -> dict[str, Any]:
    """A scrubbed native payload. Fields of its structure stay; an anonymous_id that is removed becomes null."""
    out: dict[str, Any] = {}
    for name, value in payload.items():
        how = None if name in _STRUCTURE or name in _CONTAINERS else scrubber.how(name)
        if name in _STRUCTURE:
            out[name] = value
        elif how is None or how == "encoded":
            out[name] = scrubber.value(value, counts)
        elif how == "hashed" and value is not None and (isinstance(value, str) or name not in PAYLOAD_FIELDS):
            counts["hashed"] += 1
            out[name] = scrubber.hash(value)
        elif value is not None:
            counts["dropped"] += 1
    if "anonymous_id" in payload:
        out.setdefault("anonymous_id", None)
    return out


def _within(ip: str, networks: list[ipaddress.IPv4Network | ipaddress.IPv6Network]) -> bool:
    try:
        address = ipaddress.ip_address(ip.strip().partition("%")[0])
    except ValueError:
        return False
    if address.version == 6 and address.ipv4_mapped:
        address = address.ipv4_mapped
    return any(address in network for network in networks)
