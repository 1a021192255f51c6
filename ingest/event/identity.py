"""Write keys, and the cookies that identify a browser whose events have no visitor id. Pure.

Ids that a client sends are kept as they are. A browser's cookie holds its id; a second one, if sessions are enabled,
the session's id and the time of its last event.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Mapping

from werkzeug.http import dump_cookie

from infra.settings.collector import Cookie, WriteKey
from ingest.event.event import new_message_id

MAX_ID = 512  # characters; real ids are UUIDs or mail-sized, and a cut id would merge two visitors
UNKNOWN_KEY = ""  # the name under which events of an unknown key go to the quarantine: no key can have it

_ID = re.compile(r"[A-Za-z0-9_-]{8,128}")
_SESSION = re.compile(r"([A-Za-z0-9_-]{8,128})\.([0-9]{1,15})")
_DAY_SECONDS = 86_400


class KeyRing:
    """The write keys, by secret."""

    def __init__(self, write_keys: Mapping[str, WriteKey]) -> None:
        # A digest under a random key, so that the time of a look-up reveals nothing about the secrets.
        self._seed = os.urandom(32)
        self._names = {self._digest(key.secret): name for name, key in write_keys.items()}
        self._origins = {name: frozenset(key.origins) for name, key in write_keys.items() if key.origins}

    def resolve(self, secret: str | None) -> str | None:
        """The name of the key with this secret; None if there is none."""
        return self._names.get(self._digest(secret)) if secret else None

    def allows(self, name: str, origin: str | None, everywhere: frozenset[str] = frozenset()) -> bool:
        """Whether a page of `origin` may use the key. Servers send no origin; `everywhere`: origins of all keys."""
        if origin is None or name not in self._origins:
            return True
        return not {origin.lower(), "*"}.isdisjoint(self._origins[name] | everywhere)

    @property
    def origins(self) -> frozenset[str]:
        """The origins of all keys: a CORS preflight names no key, so it is allowed if any key has its origin."""
        return frozenset().union(*self._origins.values())

    def _digest(self, secret: str) -> bytes:
        return hashlib.blake2b(secret.encode(errors="replace"), key=self._seed, digest_size=32).digest()


class Browser:
    """The visitor and session of one request's cookies, for events that have none of their own.

    Only ids that were used are stored again by `set_cookies`.
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
        """`now`: ms since 1970. `anonymous`: gives no ids, and deletes existing cookies."""
        self._rules, self._cookies, self._now, self._new_id = rules, cookies, now, new_id
        self._anonymous = anonymous
        self._visitor: str | None = None
        self._session: str | None = None

    @property
    def names(self) -> bool:
        """Whether it decides about the visitor's id, if only that there is none (anonymous mode)."""
        return self._anonymous or self._rules.days > 0

    def anonymous_id(self) -> str | None:
        """The browser's id, a new one if it has none; None if cookies are off or the visitor is anonymous."""
        if self._anonymous or not self._rules.days:
            return None
        if self._visitor is None:
            given = self._cookies.get(self._rules.name, "")
            self._visitor = given if _ID.fullmatch(given) else self._new_id()
        return self._visitor

    def session_id(self) -> str | None:
        """The current session, or a new one after `session_minutes` of inactivity; None if sessions are off."""
        if self._anonymous or not self._rules.days or not self._rules.session_minutes:
            return None
        if self._session is None:
            given = _SESSION.fullmatch(self._cookies.get(self._session_name, ""))
            goes_on = given and 0 <= self._now - int(given[2]) <= self._rules.session_minutes * 60_000
            self._session = given[1] if given and goes_on else self._new_id()
        return self._session

    def set_cookies(self) -> list[str]:
        """Values of Set-Cookie headers; none if no id was used."""
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
    """A native payload, with the browser's visitor id if it lacks the field anonymous_id.

    A null stays null: it means a visitor who wants no id.
    """
    if "anonymous_id" in payload or not browser.names:
        return payload
    named = {**payload, "anonymous_id": browser.anonymous_id()}
    if not payload.get("client_session_id") and (session := browser.session_id()):
        named["client_session_id"] = session
    return named
