"""The equations of the demo's summary: each one notices what breaks it."""

from __future__ import annotations

import pytest

from infra.demo import UnbalancedError, check

BALANCED = {
    "lines": 10,
    "accepted": 7,
    "rejected": 1,
    "filtered": 2,
    "appended": 8,
    "landed": 7,
    "quarantined": 1,
    "curated": 5,
    "duplicates": 1,
    "invalid": 1,
}


def test_a_retry_that_appended_twice_still_balances() -> None:
    check(BALANCED)


@pytest.mark.parametrize(
    ("changed", "equation"),
    [
        ({"filtered": 1}, "lines = accepted"),
        ({"appended": 6, "landed": 5, "curated": 3}, "appended >= accepted"),
        ({"quarantined": 0}, r"landed \+ quarantined = appended"),
        ({"duplicates": 2}, "landed = curated"),
    ],
)
def test_a_broken_equation_is_named(changed: dict[str, int], equation: str) -> None:
    with pytest.raises(UnbalancedError, match=equation):
        check(BALANCED | changed)
