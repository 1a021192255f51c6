"""Removes or hashes values in JSON and in URLs by their names. Pure.

Names are compared without case and punctuation, and by their last part: `email` also matches `E-Mail`, `user[email]`
and `traits.email`. JSON within strings and base64 is searched too, as trackers nest it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any, Literal
from urllib.parse import quote, unquote_plus

How = Literal["dropped", "hashed", "encoded"]
HASHED = "hashed:"

_PARTS = re.compile(r"[.\[\]]+")
_PARAMETERS = re.compile(r"([&;])")
_IS_HASHED = re.compile(HASHED + "[0-9a-f]{32}")
_IS_URL = re.compile(r"(?:[A-Za-z][A-Za-z0-9+.-]*:|[/?#])")
_ATOMS = {int, float, bool, type(None)}
ENCODED = {"cx", "uepx", "data"}  # Snowplow's and our pixel's parameters that hold base64
# A name and its value in a text that is no JSON; linear, as it matches only at the start of a name.
_IN_TEXT = re.compile(
    r"""(?<![A-Za-z0-9_.$\[\]%-])([A-Za-z0-9_.$\[\]%-]{1,128})(["']?\s{0,9}[:=]\s{0,9})("(?:[^"\\]|\\.)*"?|[^\s&,;}"]+)"""
)


class Scrubber:
    """Removes the values of `dropped` names, and hashes those of `hashed` names."""

    def __init__(self, dropped: Iterable[str], hashed: Iterable[str] = (), salt: str = "") -> None:
        self._key = hashlib.sha256(salt.encode()).digest()
        self.how = _by_name(_pattern(dropped), _pattern(hashed))
        self._url = lru_cache(maxsize=4096)(self._clean_url)  # traffic repeats few pages

    def mapping(self, values: Mapping[str, Any], counts: Counter[str]) -> dict[str, Any]:
        """A scrubbed mapping; adds to `counts` under dropped and hashed. Raises RecursionError."""
        out: dict[str, Any] = {}
        for name, value in values.items():
            how = self.how(name)
            if how is None:
                out[name] = value if value.__class__ in _ATOMS else self.value(value, counts)
            elif how == "encoded":
                out[name] = self._encoded(value, counts)
            elif how == "hashed" and value is not None:
                counts["hashed"] += 1
                out[name] = self.hash(value)
            else:
                counts["dropped"] += 1
        return out

    def value(self, value: Any, counts: Counter[str]) -> Any:
        """A scrubbed JSON value."""
        if isinstance(value, str):
            return self._string(value, counts)
        if isinstance(value, dict):
            return self.mapping(value, counts)
        if isinstance(value, list):
            return [self.value(inner, counts) for inner in value]
        return value

    def text(self, text: str, counts: Counter[str]) -> str:
        """A scrubbed text that is neither JSON nor a query: values that follow such names are removed."""

        def without(match: re.Match[str]) -> str:
            how = self.how(unquote_plus(match[1]))
            if how is None or how == "encoded":
                return match[0]
            counts["dropped"] += 1  # a hash of a broken value would be of no use
            return match[1] + match[2] + '""'

        return _IN_TEXT.sub(without, text)

    def hash(self, value: object) -> str:
        """`hashed:` and 128 bits, the same for the same value and salt; a hash stays as it is."""
        if isinstance(value, str) and _IS_HASHED.fullmatch(value):
            return value
        text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
        digest = hashlib.blake2b(text.encode(errors="replace"), key=self._key, digest_size=16)
        return HASHED + digest.hexdigest()

    def _string(self, value: str, counts: Counter[str]) -> str:
        if "=" in value and ("?" in value or "#" in value) and _IS_URL.match(value):
            cleaned, dropped, hashed = self._url(value)
            if dropped or hashed:
                counts.update({"dropped": dropped, "hashed": hashed})
            return cleaned
        if value[:1] in ("{", "["):
            changed = change_json(value, lambda inner: self.value(inner, counts))
            return self.text(value, counts) if changed is None else changed
        return value

    def _encoded(self, value: Any, counts: Counter[str]) -> Any:
        """A value that may be JSON in base64, scrubbed and encoded again."""
        changed = change_base64(value, lambda inner: self.value(inner, counts)) if isinstance(value, str) else None
        return self.value(value, counts) if changed is None else changed

    def _clean_url(self, url: str) -> tuple[str, int, int]:
        """The scrubbed URL, and how many parameters were dropped and hashed."""
        counts: Counter[str] = Counter()
        rest, hash_sign, fragment = url.partition("#")
        path, question_mark, query = rest.partition("?")
        query = self._parameters(query, counts)
        route, inner_mark, inner = fragment.rpartition("?")  # of a page that routes by its fragment
        fragment = route + inner_mark + self._parameters(inner, counts)
        return path + question_mark + query + hash_sign + fragment, counts["dropped"], counts["hashed"]

    def _parameters(self, query: str, counts: Counter[str]) -> str:
        if "=" not in query:
            return query
        kept: list[str] = []
        pieces = _PARAMETERS.split(query)
        for separator, parameter in zip(["", *pieces[1::2]], pieces[::2], strict=True):
            name, equals, value = parameter.partition("=")
            how = self.how(unquote_plus(name)) if equals else None
            if how == "dropped":
                counts["dropped"] += 1
                continue
            if how == "hashed":
                counts["hashed"] += 1
                parameter = f"{name}={quote(self.hash(unquote_plus(value)), safe=':')}"
            kept += (separator if kept else "", parameter)
        return "".join(kept)


def change_json(text: str, change: Callable[[Any], Any]) -> str | None:
    """The JSON in `text` after `change`; the same text if nothing changes, None if it is no JSON."""
    try:
        inner = json.loads(text)
        changed = change(inner)
    except (ValueError, RecursionError):
        return None
    return text if changed == inner else json.dumps(changed, ensure_ascii=False)


def change_base64(text: str, change: Callable[[Any], Any]) -> str | None:
    """The same for JSON in base64, of either alphabet, padded or not."""
    try:
        raw = base64.b64decode(text.translate(_TO_STANDARD) + "=" * (-len(text) % 4), validate=True).decode()
    except (binascii.Error, ValueError):
        return None
    changed = change_json(raw, change)
    return text if changed == raw or changed is None else base64.urlsafe_b64encode(changed.encode()).decode()


def is_encoded(name: str) -> bool:
    """Whether trackers put base64 under this name."""
    return _plain(name) in ENCODED


_TO_STANDARD = str.maketrans("-_ ", "+/+")


def _plain(name: str) -> str:
    return "".join(character for character in name.casefold() if character.isalnum())


def _pattern(names: Iterable[str]) -> re.Pattern[str] | None:
    """The pattern of names; `*` matches anything."""
    patterns = [".*".join(re.escape(_plain(part)) for part in name.split("*")) for name in names]
    return re.compile("|".join(patterns), re.DOTALL) if patterns else None


def _by_name(dropped: re.Pattern[str] | None, hashed: re.Pattern[str] | None) -> Callable[[str], How | None]:
    @lru_cache(maxsize=16_384)
    def how(name: str) -> How | None:
        last = next((part for part in reversed(_PARTS.split(name)) if part), "")
        for pattern, answer in ((dropped, "dropped"), (hashed, "hashed")):
            if pattern and any(pattern.fullmatch(_plain(one)) for one in {name, last}):
                return answer  # type: ignore[return-value]
        return "encoded" if is_encoded(name) else None

    return how
