"""When a file is closed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from storage.layout import BUCKET
from storage.sink.rolling import Limits, OpenFile, due

LIMITS = Limits(max_bytes=1_000, max_records=100, max_age_seconds=60.0)
YOUNG = OpenFile(first=10, end=20, records=10, size=100, age_seconds=1.0)


@pytest.mark.parametrize(
    ("file", "cut", "why"),
    [
        (YOUNG, 0, None),
        (replace(YOUNG, size=1_000), 0, "bytes"),
        (replace(YOUNG, records=100), 0, "records"),
        (replace(YOUNG, age_seconds=60.0), 0, "age"),
        (replace(YOUNG, first=BUCKET - 5, end=BUCKET), 0, "bucket"),
        (YOUNG, 20, "cut"),
        (YOUNG, 15, "cut"),  # the file straddles the cut
        (YOUNG, 21, None),  # not all of the batch has been read yet
        (YOUNG, 10, None),  # the batch lies in files before this one
        (OpenFile(first=20, end=20, records=0, size=0, age_seconds=1e9), 20, None),  # nothing to close
    ],
)
def test_due(file: OpenFile, cut: int, why: str | None) -> None:
    assert due(LIMITS, file, cut) == why
