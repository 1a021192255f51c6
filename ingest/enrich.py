"""What can be read from an event's own data: page path, campaign, device, bot, anonymised address. Pure."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from functools import lru_cache
from urllib.parse import unquote, unquote_plus, urlsplit

from crawlerdetect import CrawlerDetect
from ua_parser import parse as parse_user_agent

from ingest.events import Device

_CLICK_IDS = frozenset(
    ("gclid", "gbraid", "wbraid", "dclid", "fbclid", "msclkid", "ttclid", "twclid", "li_fat_id")
)  # fmt: skip
_MOBILE_OS = ("Android", "iOS", "Windows Phone", "Windows Mobile", "BlackBerry OS", "Firefox OS", "Symbian")
_DESKTOP_OS = (
    "Windows", "Mac OS X", "Linux", "Ubuntu", "Debian", "Fedora", "Red Hat", "CentOS", "Gentoo", "Mint",
    "SUSE", "Arch", "FreeBSD", "OpenBSD", "NetBSD", "Solaris", "Chrome OS",
)  # fmt: skip
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_crawlers = CrawlerDetect()

# What repeats is looked up. Whoever sends long texts, each another, shall not fill the memory with them.
_MAX_PARAMETERS = 200
_MAX_CACHED = 512  # characters of a URL
_MAX_AGENT = 1024
_NO_DEVICE = Device()
_NO_CAMPAIGN: Mapping[str, str] = {}


def device(user_agent: str | None) -> Device:
    """What a User-Agent header says; a bot is ua-parser's Spider or a name that crawlerdetect knows."""
    return _device(user_agent[:_MAX_AGENT]) if user_agent else _NO_DEVICE


@lru_cache(maxsize=8192)  # parsing takes a millisecond, and traffic repeats few agents
def _device(user_agent: str) -> Device:
    if user_agent == "-":
        return _NO_DEVICE
    agent = parse_user_agent(user_agent)
    family = agent.device.family if agent.device else ""
    os = agent.os.family if agent.os else None
    is_bot = family == "Spider" or _crawlers.is_crawler(user_agent)
    return Device(
        browser=agent.user_agent.family if agent.user_agent else None,
        os=os,
        type="bot" if is_bot else _device_type(family, os or "", user_agent),
        is_bot=is_bot,
    )


def _device_type(family: str, os: str, user_agent: str) -> str:
    """Tablets name themselves, or are Android without "Mobile", as Google asks of their makers."""
    if family == "iPad" or "Tablet" in user_agent or "Kindle" in family:
        return "tablet"
    if os == "Android" and "Mobile" not in user_agent:
        return "tablet"
    if os in _MOBILE_OS or "Phone" in family or "Smartphone" in family:
        return "mobile"
    return "desktop" if os in _DESKTOP_OS else "other"


def campaign(url: str | None) -> Mapping[str, str]:
    """utm_* parameters, their prefix removed, and click ids of a page's URL; empty values are left out."""
    if not url or "?" not in url:
        return _NO_CAMPAIGN
    lower = url.lower()
    if not ("utm_" in lower or "id=" in lower or "%" in lower):  # a name may be escaped
        return _NO_CAMPAIGN
    return _campaign(url) if len(url) <= _MAX_CACHED else _campaign.__wrapped__(url)


@lru_cache(maxsize=8192)
def _campaign(url: str) -> Mapping[str, str]:
    """By hand: parse_qsl would decode all of the parameters, most of which are none of ours."""
    if "[" in url and not _is_url(url):
        return _NO_CAMPAIGN
    pairs = url.partition("#")[0].partition("?")[2].split("&")
    found: dict[str, str] = {}
    for pair in pairs if len(pairs) <= _MAX_PARAMETERS else ():
        name, _, value = pair.partition("=")
        if not value:
            continue
        lower = _plain(name).lower()
        if lower.startswith("utm_") and len(lower) > 4:
            found.setdefault(lower[4:][:64], _plain(value)[:512])
        elif lower in _CLICK_IDS:
            found.setdefault(lower, _plain(value)[:512])
    return found


def _is_url(text: str) -> bool:
    try:
        urlsplit(text)
    except ValueError:
        return False
    return True


def _plain(text: str) -> str:
    return unquote_plus(text) if "%" in text or "+" in text else text


def page_path(url: str) -> str | None:
    """The path of a URL or of a request's target, without query and fragment, None where there is none.

    Escapes are decoded within each segment, so that one page has one name however it was typed; a segment keeps
    them where decoding would give a slash, a control character or bytes that are no UTF-8.
    """
    return _page_path(url) if len(url) <= _MAX_CACHED else _page_path.__wrapped__(url)


@lru_cache(maxsize=16_384)
def _page_path(url: str) -> str | None:
    try:
        path = url.partition("#")[0].partition("?")[0] if url.startswith("/") else urlsplit(url).path
    except ValueError:
        return None
    if path.startswith("//"):
        path = "/" + path.lstrip("/")
    return "/".join(map(_decode_segment, path.split("/"))) or None


def _decode_segment(segment: str) -> str:
    if "%" not in segment:
        return segment
    try:
        decoded = unquote(segment, errors="strict")
    except UnicodeDecodeError:
        return segment
    return segment if "/" in decoded or _CONTROL.search(decoded) else decoded


def normalize_ip(address: str) -> str:
    """The address in canonical form, IPv4 where it is mapped into IPv6. Raises ValueError when it is none."""
    return str(_parse_ip(address))


@lru_cache(maxsize=16_384)
def anonymize_ip(address: str) -> str:
    """The network: last octet zero, IPv6 to its /48. Raises ValueError when `address` is none."""
    parsed = _parse_ip(address)
    prefix = 24 if parsed.version == 4 else 48
    return str(ipaddress.ip_network((parsed.packed, prefix), strict=False).network_address)


def _parse_ip(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    parsed = ipaddress.ip_address(address.strip().partition("%")[0])  # a zone is no part of it
    if parsed.version == 6 and parsed.ipv4_mapped:
        return parsed.ipv4_mapped
    return parsed
