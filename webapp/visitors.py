"""Who is looking: the visitor's id in a cookie, and what that visitor looked at lately, in memory.

The recent views are for this very visit, before any batch has learnt of it, so losing them at a restart costs little:
the events themselves are with the collector.
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
    """visitor id -> the ids of the last `length` items, newest last, of the `visitors` seen last. Thread-safe."""

    def __init__(self, visitors: int = 10_000, length: int = 20) -> None:
        self._visitors, self._length = visitors, length
        self._views: OrderedDict[str, tuple[str, ...]] = OrderedDict()
        self._lock = threading.Lock()

    def add(self, visitor_id: str, item_id: str) -> None:
        """Notes a view; an item seen again moves to the end."""
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
    """This request's visitor; a new one where the cookie is missing or unusable."""
    if "visitor" not in g:
        known = unquote(request.cookies.get(COOKIE, ""))
        if 0 < len(known) <= MAX_LENGTH and known.isprintable():
            g.visitor = known
        else:
            become(str(uuid.uuid4()))
    return str(g.visitor)


def become(visitor_id: str) -> None:
    """Makes this request's visitor somebody else, and the browser's from now on."""
    g.visitor, g.visitor_is_new = visitor_id, True


def remember(response: Response) -> Response:
    """Sets the cookie where the visitor is new. HttpOnly: the tracker reads the id from the page."""
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
