"""Client hints, by which a Chromium browser describes itself beside its frozen User-Agent. Pure.

They come as headers (Sec-CH-UA …, https://wicg.github.io/ua-client-hints) in the syntax of RFC 8941, or in an event as
`navigator.userAgentData`. A header that can't be parsed is ignored.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Annotated, Any

import msgspec
from msgspec import Meta

_HEADERS = (
    "HTTP_SEC_CH_UA", "HTTP_SEC_CH_UA_FULL_VERSION_LIST", "HTTP_SEC_CH_UA_MOBILE", "HTTP_SEC_CH_UA_PLATFORM",
    "HTTP_SEC_CH_UA_PLATFORM_VERSION", "HTTP_SEC_CH_UA_MODEL", "HTTP_SEC_CH_UA_FORM_FACTORS",
)  # fmt: skip
_MAX_HEADER, _MAX_BRANDS, _MAX_TEXT = 512, 16, 64  # strangers shall not fill the caches

# RFC 8941: a string, and a list of strings with parameters; brands that are none hold what breaks careless parsers.
_STRING = r'"((?:[ !#-\[\]-~]|\\["\\])*)"'
_PARAMETER = r';[ ]*[a-z*][a-z0-9_.*-]*(?:=(?:"(?:[ !#-\[\]-~]|\\["\\])*"|[^\s",;]+))?'
_ITEM = re.compile(rf"[ \t]*{_STRING}(?:{_PARAMETER})*[ \t]*(,|$)")
_ONE_STRING = re.compile(rf"[ ]*{_STRING}[ ]*")
_ESCAPED = re.compile(r'\\(["\\])')
_BOOLEANS = {"?1": True, "?0": False}


class Hints(msgspec.Struct, frozen=True, gc=False, cache_hash=True):
    """The hints of one browser; None and empty mean unknown. `brands` keep their order."""

    brands: tuple[str, ...] = ()
    mobile: bool | None = None
    platform: str | None = None
    platform_version: str | None = None
    model: str | None = None
    form_factors: tuple[str, ...] = ()

    def over(self, other: Hints | None) -> Hints:
        """These hints, completed by the other's."""
        if other is None:
            return self
        return Hints(
            self.brands or other.brands,
            other.mobile if self.mobile is None else self.mobile,
            self.platform or other.platform,
            self.platform_version or other.platform_version,
            self.model or other.model,
            self.form_factors or other.form_factors,
        )


def of_request(environ: Mapping[str, Any]) -> Hints | None:
    """The hints in a WSGI request's headers; None if it has none."""
    if _HEADERS[0] not in environ:
        return None
    headers = [environ.get(name) or "" for name in _HEADERS]
    return _of_headers(*[text if len(text) <= _MAX_HEADER else "" for text in headers])


@lru_cache(maxsize=4096)  # traffic repeats few
def _of_headers(
    brands: str, versions: str, mobile: str, platform: str, platform_version: str, model: str, forms: str
) -> Hints:
    return Hints(
        brands=_strings(brands) or _strings(versions),
        mobile=_BOOLEANS.get(mobile.strip(" ")),
        platform=_string(platform),
        platform_version=_string(platform_version),
        model=_string(model),
        form_factors=_strings(forms),
    )


def _strings(header: str) -> tuple[str, ...]:
    """The strings of a structured list (RFC 8941); none if any part is malformed, as the RFC requires."""
    found: list[str] = []
    position, more = 0, bool(header)
    while more:
        item = _ITEM.match(header, position)
        if item is None:
            return ()
        found.append(_ESCAPED.sub(r"\1", item[1]))
        position, more = item.end(), item[2] == ","
    return tuple(found[:_MAX_BRANDS])


def _string(header: str) -> str | None:
    whole = _ONE_STRING.fullmatch(header)
    return _ESCAPED.sub(r"\1", whole[1])[:_MAX_TEXT] or None if whole else None


_Text = Annotated[str, Meta(max_length=_MAX_TEXT)]


class Brand(msgspec.Struct, gc=False):
    """An element of userAgentData.brands."""

    brand: _Text


class AgentData(msgspec.Struct, rename="camel", gc=False):
    """`navigator.userAgentData`, with the high-entropy values that the page requested; other fields are ignored."""

    brands: Annotated[list[Brand], Meta(max_length=_MAX_BRANDS)] | None = None
    mobile: bool | None = None
    platform: _Text | None = None
    platform_version: _Text | None = None
    model: _Text | None = None
    form_factors: Annotated[list[_Text], Meta(max_length=_MAX_BRANDS)] | None = None

    def hints(self) -> Hints:
        return Hints(
            tuple(brand.brand for brand in self.brands or ()),
            self.mobile,
            self.platform,
            self.platform_version,
            self.model,
            tuple(self.form_factors or ()),
        )


_FIELDS = {field.encode_name: field.type for field in msgspec.structs.fields(AgentData)}


def readable(value: object) -> dict[str, Any] | None:
    """The valid fields of what a tracker sends as AgentData; invalid ones are no reason to refuse its event."""
    if not isinstance(value, Mapping):
        return None
    return {name: value[name] for name, type_ in _FIELDS.items() if name in value and _fits(value[name], type_)} or None


def _fits(value: object, type_: Any) -> bool:
    try:
        msgspec.convert(value, type_)
    except msgspec.ValidationError:
        return False
    return True
