"""A line of a web server's access log (combined format) -> page view, filtered or rejected. Pure.

A page view is a GET answered with 200 or 304 for something that is no asset, feed or download. Crawlers are page
views too; the collector marks them.
"""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from urllib.parse import parse_qsl

from ingest.event import enrich
from ingest.event.event import to_millis
from ingest.protocols.native import MAX_ITEM_ID
from ingest.protocols.protocol import Protocol, Resend

_QUOTED = r'"((?:[^"\\]|\\.)*)"'
_LINE = re.compile(rf"^(\S+) (\S+) (\S.*?) \[([^\]]+)\] {_QUOTED} (\d{{3}}) (\d+|-) {_QUOTED} {_QUOTED}\s*$")
_REQUEST = re.compile(r"^([A-Z]+) (\S+)(?: HTTP/[\d.]+)?$")
_TIME = re.compile(r"^(\d\d)/(\w{3})/(\d{4}):(\d\d):(\d\d):(\d\d) ([+-])(\d\d)(\d\d)$")
_ESCAPE = re.compile(r"\\(x[0-9A-Fa-f]{2}|.)")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
# Fixed for ever: the visitor ids of all replays derive from it.
_NAMESPACE = uuid.UUID("0b1f3f0a-6a53-5c5e-8f57-2f8d0c6f7e11")

_ASSETS = frozenset(
    ("avif", "bmp", "css", "eot", "gif", "ico", "jpeg", "jpg", "js", "json", "map", "mjs", "otf", "png", "svg",
     "swf", "tif", "tiff", "ttf", "webmanifest", "webp", "woff", "woff2", "xsl")
)  # fmt: skip
_FEEDS = frozenset(("atom", "rdf", "rss", "xml"))
_DOWNLOADS = frozenset(
    ("7z", "apk", "bin", "bz2", "deb", "dmg", "doc", "docx", "exe", "gem", "gz", "iso", "jar", "m4a", "mp3", "mp4",
     "msi", "odp", "ods", "odt", "ogg", "ogv", "pcap", "pdf", "ppt", "pptx", "pyc", "rar", "rpm", "tar", "tbz",
     "tgz", "wav", "webm", "whl", "xls", "xlsx", "xz", "zip")
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class PageView:
    """A page view; `payload` is native."""

    payload: dict[str, object]


@dataclass(frozen=True, slots=True)
class Filtered:
    """A valid line that is no page view. `reason`: asset, feed, download, robots, method, status or blank."""

    reason: str


@dataclass(frozen=True, slots=True)
class Rejected:
    """A line that can't be parsed."""

    field: str
    reason: str


def parse(line: str, number: int, file: str) -> PageView | Filtered | Rejected:
    """Parses line `number` (from 1) of `file`."""
    if not line.strip():
        return Filtered("blank")
    match = _LINE.match(line)
    if match is None:
        return Rejected("line", "is not in the combined log format")
    host, _, _, time, request, status, _, referrer, user_agent = match.groups()
    occurred_at = _parse_time(time)
    if occurred_at is None:
        return Rejected("occurred_at", "is no time of an access log")
    asked = _REQUEST.match(_unescape(request))
    if asked and asked[1] != "GET":
        return Filtered("method")
    if status not in ("200", "304"):
        return Filtered("status")
    path = enrich.page_path(asked[2]) if asked else None
    if asked is None or path is None:
        return Rejected("request", "is no method, target and protocol")
    reason = _no_page(asked[2], path)
    if reason:
        return Filtered(reason)
    payload = _page_view(host, path, occurred_at, _unescape(referrer), _unescape(user_agent))
    return PageView(payload | {"message_id": message_id(file, number, line), "sequence": number})


def message_id(file: str, number: int, line: str) -> str:
    """Such as `access.log.gz:123:9f86d081`: the same at each replay; the digest differs if the line does."""
    digest = hashlib.sha256(line.encode(errors="surrogateescape")).hexdigest()[:8]
    return f"{file[-400:]}:{number}:{digest}"


def visitor_id(host: str, user_agent: str) -> str:
    """A visitor's id in a log: one per address and agent, derived before the address is anonymised."""
    return str(uuid.uuid5(_NAMESPACE, json.dumps([host, user_agent])))


def _page_view(host: str, path: str, occurred_at: int, referrer: str, user_agent: str) -> dict[str, object]:
    try:
        ip: str | None = enrich.normalize_ip(host)
    except ValueError:
        ip = None  # a server that looks names up writes them instead
    path = path[:MAX_ITEM_ID]
    return {
        "event_type": "page_view",
        "occurred_at": occurred_at,
        "anonymous_id": visitor_id(host, user_agent),
        "page": {"path": path, "referrer": None if referrer in ("-", "") else referrer},
        "item_id": path,
        "ip": ip,
        "user_agent": None if user_agent == "-" else user_agent,
    }


def _no_page(target: str, path: str) -> str | None:
    """Why a target is no page; None if it is one."""
    name = path.rsplit("/", 1)[-1].lower()
    suffix = name.rsplit(".", 1)[1] if "." in name else ""
    if name == "robots.txt":
        return "robots"
    if suffix in _ASSETS:
        return "asset"
    if suffix in _DOWNLOADS:
        return "download"
    query = target.partition("?")[2].partition("#")[0]
    if suffix in _FEEDS or any(key == "flav" for key, _ in parse_qsl(query, keep_blank_values=True)):
        return "feed"
    if path.rstrip("/").rsplit("/", 1)[-1].lower() in ("feed", "rss", "atom"):
        return "feed"
    return None


def _parse_time(text: str) -> int | None:
    """`17/May/2015:10:05:03 +0000` in milliseconds; by hand, as %b of strptime depends on the locale."""
    match = _TIME.match(text)
    if match is None or match[2] not in _MONTHS:
        return None
    day, hour, minute, second = (int(match[group]) for group in (1, 4, 5, 6))
    offset = timedelta(hours=int(match[8]), minutes=int(match[9])) * (1 if match[7] == "+" else -1)
    try:
        zone = timezone(offset) if offset else UTC
        return to_millis(datetime(int(match[3]), _MONTHS.index(match[2]) + 1, day, hour, minute, second, 0, zone))
    except ValueError:
        return None


def _unescape(text: str) -> str:
    r"""The text without the server's escapes \" and \\, and \xhh if those bytes are UTF-8."""
    if "\\" not in text:
        return text
    plain = _ESCAPE.sub(lambda m: chr(int(m[1][1:], 16)) if len(m[1]) == 3 else m[1], text)
    try:
        return plain.encode("latin-1").decode()
    except UnicodeError:
        return text


def _resend(line: str, run: str, number: int | None) -> Resend:
    place = {"source": run, "first_line": str(number or 1)}
    return Resend("POST", "/collect/access-log", {"params": place, "data": f"{line}\n".encode()})


PROTOCOL = Protocol("access_log", resend=_resend)
