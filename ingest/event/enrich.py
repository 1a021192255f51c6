"""Enrichment from an event's own data: page path, campaign, device, bot, anonymised address. Pure."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from functools import lru_cache
from urllib.parse import unquote, unquote_plus, urlsplit

from crawlerdetect import CrawlerDetect
from ua_parser import parse as parse_user_agent

from ingest.event.event import Device
from ingest.event.hints import Hints

_CLICK_IDS = frozenset(
    ("gclid", "gbraid", "wbraid", "dclid", "fbclid", "msclkid", "ttclid", "twclid", "li_fat_id")
)  # fmt: skip
_MOBILE_OS = ("Android", "iOS", "Windows Phone", "Windows Mobile", "BlackBerry OS", "Firefox OS", "Symbian")
_UNIX = (
    "Linux", "Ubuntu", "Debian", "Fedora", "Red Hat", "CentOS", "Gentoo", "Mint", "SUSE", "Arch", "FreeBSD",
    "OpenBSD", "NetBSD", "Solaris",
)  # fmt: skip
_WINDOWS_11 = "Windows 11"  # all agents say 10
_DESKTOP_OS = ("Windows", _WINDOWS_11, "Mac OS X", *_UNIX, "Chrome OS")

# Client hints' names -> ua-parser's families.
_PLATFORMS = {"macOS": "Mac OS X", "Chromium OS": "Chrome OS"} | {
    name: name for name in ("Windows", "Linux", "Android", "iOS", "Chrome OS")
}
_ENGINES = {"Google Chrome": "Chrome", "Android WebView": "Chrome Mobile WebView", "Chromium": "Chromium"}
_BRANDS = {
    "Microsoft Edge": "Edge",
    "Microsoft Edge WebView2": "Edge",
    "Opera GX": "Opera",
    "YaBrowser": "Yandex Browser",
}
_WITH_MOBILE = ("Chrome", "Edge", "Opera")  # these are other families there
_FORMS = {"Desktop": "desktop", "Mobile": "mobile", "Tablet": "tablet"}
_BRAND = re.compile(r"[A-Za-z][A-Za-z0-9 .&+'-]{0,47}")
_NO_BRAND = re.compile(r"[^A-Za-z]+")  # taken away from "Not(A:Brand", which is spelled otherwise each month
_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._+-]*")
_FROZEN_MODEL = "; K)"  # instead of an Android device's own
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_crawlers = CrawlerDetect()

# Limits of the caches: long texts are not cached, so that no sender can fill the memory.
_MAX_PARAMETERS = 200
_MAX_CACHED = 512  # characters of a URL
_MAX_AGENT = 1024
_NO_DEVICE, _NO_HINTS = Device(), Hints()
_NO_CAMPAIGN: Mapping[str, str] = {}


def device(user_agent: str | None, hints: Hints | None = None) -> Device:
    """The device of a User-Agent header; client hints, if there are any, are more precise.

    A bot is ua-parser's device "Spider" or a name that crawlerdetect knows.
    """
    return _device((user_agent or "")[:_MAX_AGENT], hints) if user_agent or hints else _NO_DEVICE


@lru_cache(maxsize=8192)  # parsing takes a millisecond, and traffic repeats few agents
def _device(user_agent: str, hints: Hints | None) -> Device:
    if user_agent == "-" and hints is None:
        return _NO_DEVICE
    hints = hints or _NO_HINTS
    if hints.model and _MODEL.fullmatch(hints.model):
        user_agent = user_agent.replace(_FROZEN_MODEL, f"; {hints.model})", 1)
    agent = parse_user_agent(user_agent)
    family = agent.device.family if agent.device else ""
    os = _os(agent.os.family if agent.os else None, hints)
    is_bot = family == "Spider" or "HeadlessChrome" in hints.brands or _crawlers.is_crawler(user_agent)
    return Device(
        browser=_browser(agent.user_agent.family if agent.user_agent else None, user_agent, hints),
        os=os,
        type="bot" if is_bot else _device_type(family, os or "", user_agent, hints),
        is_bot=is_bot,
    )


def _browser(family: str | None, user_agent: str, hints: Hints) -> str | None:
    """The browser by its brand, as ua-parser names it; an engine's brand only if the agent names no browser."""
    own = [brand for brand in hints.brands if _is_brand(brand) and brand not in _ENGINES]
    shared = [brand for brand in _ENGINES if brand in hints.brands]
    if own:
        name = _BRANDS.get(own[0], own[0])
    elif shared and not (family and "Chrome/" in user_agent):
        name = _ENGINES[shared[0]]
    else:
        return family
    if family and family.startswith(name):
        return family  # Edge Mobile, Opera Mini
    return f"{name} Mobile" if hints.mobile and name in _WITH_MOBILE else name


def _is_brand(text: str) -> bool:
    """Whether it is a real brand: browsers add a made-up one (GREASE), so that nobody relies on the list."""
    return bool(_BRAND.fullmatch(text)) and _NO_BRAND.sub("", text).lower() != "notabrand"


def _os(family: str | None, hints: Hints) -> str | None:
    name = _PLATFORMS.get(hints.platform or "")
    if name == "Windows":
        major = (hints.platform_version or "").partition(".")[0]
        return _WINDOWS_11 if major.isdecimal() and int(major) >= 13 else name
    return family if name is None or (name == "Linux" and family in _UNIX) else name


def _device_type(family: str, os: str, user_agent: str, hints: Hints) -> str:
    """desktop, mobile, tablet or other. An Android agent without "Mobile" is a tablet, by Google's convention."""
    if hints.form_factors:
        return next((_FORMS[form] for form in hints.form_factors if form in _FORMS), "other")
    if family == "iPad" or "Tablet" in user_agent or "Kindle" in family:
        return "tablet"
    is_mobile = "Mobile" in user_agent if hints.mobile is None else hints.mobile
    if os == "Android" and not is_mobile:
        return "tablet"
    if hints.mobile or os in _MOBILE_OS or "Phone" in family or "Smartphone" in family:
        return "mobile"
    return "desktop" if os in _DESKTOP_OS else "other"


def campaign(url: str | None) -> Mapping[str, str]:
    """The utm_* parameters of a page's URL, without their prefix, and its click ids; empty values are left out."""
    if not url or "?" not in url:
        return _NO_CAMPAIGN
    lower = url.lower()
    if not ("utm_" in lower or "id=" in lower or "%" in lower):  # a name may be escaped
        return _NO_CAMPAIGN
    return _campaign(url) if len(url) <= _MAX_CACHED else _campaign.__wrapped__(url)


@lru_cache(maxsize=8192)
def _campaign(url: str) -> Mapping[str, str]:
    """`campaign` by hand: parse_qsl would decode every parameter, and most are not campaign parameters."""
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
    """The path of a URL or request target, without query and fragment; None if it has none.

    Escapes are decoded within each segment, so that one page has one name. A segment keeps its escapes if decoding
    would give a slash, a control character or invalid UTF-8.
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
    """The address in canonical form; an IPv4-mapped IPv6 address becomes IPv4. Raises ValueError."""
    return str(_parse_ip(address))


@lru_cache(maxsize=16_384)
def anonymize_ip(address: str) -> str:
    """The address of its network: /24 for IPv4, /48 for IPv6. Raises ValueError."""
    parsed = _parse_ip(address)
    prefix = 24 if parsed.version == 4 else 48
    return str(ipaddress.ip_network((parsed.packed, prefix), strict=False).network_address)


def _parse_ip(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    parsed = ipaddress.ip_address(address.strip().partition("%")[0])  # a zone is no part of it
    if parsed.version == 6 and parsed.ipv4_mapped:
        return parsed.ipv4_mapped
    return parsed
