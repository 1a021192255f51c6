"""Ratings for tests, with tastes that are planted."""

from __future__ import annotations

from pathlib import Path

import numpy as np


def planted(folder: Path, users: int = 120) -> Path:
    """Two tastes of 15 items each: every user has met 9 of the own taste and one of the other."""
    random = np.random.default_rng(5)
    lines = ["user,item,rating"]
    for user in range(users):
        own, foreign = (0, 15) if user % 2 else (15, 0)
        met = [*(own + random.permutation(15)[:9]), foreign + int(random.integers(15))]
        lines += [f"u{user},i{item},{random.integers(1, 6)}" for item in met]
    path = folder / "planted.csv"
    path.write_text("\n".join(lines))
    return path
