"""The visitor's id, in a cookie, and the visitor's recent views, in memory.

Recent views serve the current visit, which no batch has processed yet. A restart may lose them: the events are stored
by the collector.
"""

from __future__ import annotations

import threading
import uuid
from collections import OrderedDict
from collections.abc import Sequence
from urllib.parse import quote, unquote

from flask import Response, g, request

COOKIE = "clickstream_visitor"
MAX_AGE_SECONDS = 365 * 24 * 3600
MAX_LENGTH = 200


class RecentViews:
    """Visitor id -> ids of the last `length` items, newest last, for the latest `visitors`. Thread-safe."""

    def __init__(self, visitors: int = 10_000, length: int = 20) -> None:
        self._visitors, self._length = visitors, length
        self._views: OrderedDict[str, tuple[str, ...]] = OrderedDict()
        self._lock = threading.Lock()

    def add(self, visitor_id: str, item_id: str) -> None:
        """Adds a view; an item viewed again moves to the end."""
        with self._lock:
            earlier = (seen for seen in self._views.pop(visitor_id, ()) if seen != item_id)
            self._views[visitor_id] = (*earlier, item_id)[-self._length :]
            while len(self._views) > self._visitors:
                self._views.popitem(last=False)

    def of(self, visitor_id: str) -> Sequence[str]:
        """The items, newest last."""
        with self._lock:
            return self._views.get(visitor_id, ())


def current_visitor() -> str:
    """This request's visitor; a new one if the cookie is missing or invalid."""
    if "visitor" not in g:
        known = unquote(request.cookies.get(COOKIE, ""))
        if 0 < len(known) <= MAX_LENGTH and known.isprintable():
            g.visitor = known
        else:
            become(str(uuid.uuid4()))
    return str(g.visitor)


def become(visitor_id: str) -> None:
    """Switches this request and the browser's cookie to another visitor."""
    g.visitor, g.visitor_is_new = visitor_id, True


def remember(response: Response) -> Response:
    """Sets the cookie if the visitor is new. It is HttpOnly, as the tracker reads the id from the page."""
    if g.get("visitor_is_new"):
        response.set_cookie(
            COOKIE,
            quote(g.visitor, safe=""),
            max_age=MAX_AGE_SECONDS,
            httponly=True,
            samesite="Lax",
            secure=request.is_secure,
        )
    return response
