"""Who sent it: write keys and visitor ids. Pure."""

from __future__ import annotations

import hmac
from collections.abc import Mapping

MAX_ID = 512  # characters; real ids are UUIDs or mail-sized, and a cut id would merge two visitors


def resolve_write_key(secret: str | None, write_keys: Mapping[str, str]) -> str | None:
    """The name of the key with this secret, None where there is none.

    Compares with every key and in constant time, so that timing tells nothing about secrets.
    """
    given = (secret or "").encode(errors="replace")
    found = None
    for name, expected in write_keys.items():
        if hmac.compare_digest(given, expected.encode()) and expected:
            found = name
    return found
