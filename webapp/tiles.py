"""A picture for an item that has none: colours and shapes from a hash of its id, the same every time. Pure."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Circle:
    """In a picture of 160 by 100 units."""

    x: int
    y: int
    radius: int
    fill: str


@dataclass(frozen=True, slots=True)
class Tile:
    """A background and circles upon it, from back to front; colours are CSS's."""

    background: str
    circles: tuple[Circle, ...]


def tile(item_id: str) -> Tile:
    """One hue of the item's own, three beside it; the lightest circle in front."""
    digest = hashlib.blake2b(item_id.encode(), digest_size=16).digest()
    hue = digest[0] * 360 // 256
    circles = tuple(
        Circle(
            x=digest[3 * i + 1] * 160 // 255,
            y=20 + digest[3 * i + 2] * 80 // 255,
            radius=radius + digest[3 * i + 3] * 14 // 255,
            fill=f"hsl({(hue + shift) % 360} {saturation}% {lightness}%)",
        )
        for i, (radius, shift, saturation, lightness) in enumerate(
            [(56, 14, 34, 70), (36, -16, 36, 60), (20, 42, 52, 77), (9, 0, 50, 93)]
        )
    )
    return Tile(f"hsl({hue} 36% 82%)", circles)
