"""Item and visitor ids <-> URLs, for any id whatever it contains. Pure.

    /presentations/logstash-1/   <->   /item/presentations/logstash-1/
    sku 17                       <->   /item?id=sku%2017

Ids that are paths get the readable form. The query form is for ids without a leading slash, and for those with an
empty, `.` or `..` segment, which browsers and proxies rewrite.
"""

from __future__ import annotations

from urllib.parse import quote

from werkzeug.routing import BaseConverter


class RestConverter(BaseConverter):
    """Matches the rest of the path, even if it is empty or starts with a slash (Werkzeug's `path` allows neither)."""

    regex = r"[\s\S]*"
    part_isolating = False

    def to_url(self, value: str) -> str:
        """Percent-encoded, slashes kept."""
        return quote(value, safe="/")


def item_url(item_id: str) -> str:
    """The page of an item, relative to the site's root."""
    segments = item_id.split("/")
    path_like = item_id.startswith("/") and not {"", ".", ".."} & {*segments[1:-1]}
    if path_like and segments[-1] not in (".", ".."):
        return f"/item{quote(item_id, safe='/')}"
    return f"/item?id={quote(item_id, safe='')}"


def item_ids(rest: str) -> tuple[str, str]:
    """The ids that `/item/<rest>` may mean, likeliest first; the second forgives a hand-typed `/item/sku-17`."""
    return f"/{rest}", rest


def visitor_url(visitor_id: str) -> str:
    """The URL that switches to this visitor."""
    return f"/as/{quote(visitor_id, safe='')}"
