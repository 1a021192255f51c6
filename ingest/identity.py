"""Who sent it: write keys, and the cookies that name a browser whose events name nobody. Pure.

Ids that a client brings are its own and stay as they are. A browser's cookie holds nothing but its id; a second one,
where sessions are asked for, the session's id and the time of its last event.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Mapping

from werkzeug.http import dump_cookie

from infra.policy import Cookie, WriteKey
from ingest.events import new_message_id

MAX_ID = 512  # characters; real ids are UUIDs or mail-sized, and a cut id would merge two visitors
UNKNOWN_KEY = ""  # the name under which events of an unknown key go to the quarantine: no key can have it

_ID = re.compile(r"[A-Za-z0-9_-]{8,128}")
_SESSION = re.compile(r"([A-Za-z0-9_-]{8,128})\.([0-9]{1,15})")
_DAY_SECONDS = 86_400


class KeyRing:
    """The write keys, by secret. Built once; `resolve` costs the same however many there are."""

    def __init__(self, write_keys: Mapping[str, WriteKey]) -> None:
        # A digest under a random key: how long its look-up takes tells nothing about secrets.
        self._seed = os.urandom(32)
        self._names = {self._digest(key.secret): name for name, key in write_keys.items()}
        self._origins = {name: frozenset(key.origins) for name, key in write_keys.items() if key.origins}

    def resolve(self, secret: str | None) -> str | None:
        """The name of the key with this secret, None where there is none."""
        return self._names.get(self._digest(secret)) if secret else None

    def allows(self, name: str, origin: str | None, everywhere: frozenset[str] = frozenset()) -> bool:
        """Whether a page of `origin` may use the key. Servers send no origin; `everywhere`: origins of all keys."""
        if origin is None or name not in self._origins:
            return True
        return not {origin.lower(), "*"}.isdisjoint(self._origins[name] | everywhere)

    @property
    def origins(self) -> frozenset[str]:
        """Of all keys together: a preflight names no key, so CORS can only ask whether any has the origin."""
        return frozenset().union(*self._origins.values())

    def _digest(self, secret: str) -> bytes:
        return hashlib.blake2b(secret.encode(errors="replace"), key=self._seed, digest_size=32).digest()


class Browser:
    """The visitor and session of one request's cookies; an event that brings its own never asks.

    What was asked for is what `set_cookies` stores, so a request whose events all have ids sets none.
    """

    def __init__(
        self,
        rules: Cookie,
        cookies: Mapping[str, str],
        now: int,
        *,
        anonymous: bool = False,
        new_id: Callable[[], str] = new_message_id,
    ) -> None:
        """`now`: ms since 1970. `anonymous`: nobody is named, and cookies of before are taken back."""
        self._rules, self._cookies, self._now, self._new_id = rules, cookies, now, new_id
        self._anonymous = anonymous
        self._visitor: str | None = None
        self._session: str | None = None

    @property
    def names(self) -> bool:
        """Whether there is an answer at all, if only that the visitor is anonymous."""
        return self._anonymous or self._rules.days > 0

    def anonymous_id(self) -> str | None:
        """The browser's id, new where it has none; None where cookies are off or the visitor is anonymous."""
        if self._anonymous or not self._rules.days:
            return None
        if self._visitor is None:
            given = self._cookies.get(self._rules.name, "")
            self._visitor = given if _ID.fullmatch(given) else self._new_id()
        return self._visitor

    def session_id(self) -> str | None:
        """The session that goes on, or a new one after `session_minutes` of inactivity; None where there are none."""
        if self._anonymous or not self._rules.days or not self._rules.session_minutes:
            return None
        if self._session is None:
            given = _SESSION.fullmatch(self._cookies.get(self._session_name, ""))
            goes_on = given and 0 <= self._now - int(given[2]) <= self._rules.session_minutes * 60_000
            self._session = given[1] if given and goes_on else self._new_id()
        return self._session

    def set_cookies(self) -> list[str]:
        """Values of Set-Cookie headers, none when nothing was asked for."""
        if self._anonymous:
            return [
                self._cookie(name, "", 0) for name in (self._rules.name, self._session_name) if name in self._cookies
            ]
        cookies = []
        if self._visitor is not None:
            cookies.append(self._cookie(self._rules.name, self._visitor, self._rules.days * _DAY_SECONDS))
        if self._session is not None:
            value = f"{self._session}.{self._now}"
            cookies.append(self._cookie(self._session_name, value, self._rules.session_minutes * 60))
        return cookies

    @property
    def _session_name(self) -> str:
        return f"{self._rules.name}_session"

    def _cookie(self, name: str, value: str, max_age: int) -> str:
        rules = self._rules
        return dump_cookie(
            name,
            value,
            max_age=max_age,
            domain=rules.domain or None,
            secure=rules.secure,
            httponly=rules.http_only,
            samesite=rules.same_site,
            sync_expires=False,  # Max-Age says it, whatever the browser's clock
        )


def with_visitor(payload: Mapping[str, object], browser: Browser) -> Mapping[str, object]:
    """A native payload that has no visitor, with the browser's; one that has, as it is.

    Null is a visitor who wants no id, and stays: only a payload without the field asks the cookie. Where there are no
    cookies it stays without.
    """
    if "anonymous_id" in payload or not browser.names:
        return payload
    named = {**payload, "anonymous_id": browser.anonymous_id()}
    if not payload.get("client_session_id") and (session := browser.session_id()):
        named["client_session_id"] = session
    return named
