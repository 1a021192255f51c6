"""Write keys."""

from __future__ import annotations

import pytest

from ingest.identity import resolve_write_key

KEYS = {"shop": "secret-1", "app": "gehëim", "empty": ""}


@pytest.mark.parametrize(
    ("secret", "name"),
    [
        ("secret-1", "shop"),
        ("gehëim", "app"),
        ("shop", None),
        ("secret-", None),
        ("", None),
        (None, None),
        ("\ud800", None),
    ],
)
def test_a_key_is_known_by_its_secret_only(secret: str | None, name: str | None) -> None:
    assert resolve_write_key(secret, KEYS) == name
