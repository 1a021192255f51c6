"""Synthetic shoppers with planted tastes: the same seed gives the same events, and the truth is known. Pure.

Each visitor and each item has one of the tastes. Visitors come several times over the days, more often in the evening
and at weekends. They view mostly items of their taste, popular ones more often (Zipf), and rarely one they know; some
items only appear midway. Each visit begins with a list: visitors examine its upper positions more often (position-based
model: each position independently), and click what they examine and like.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from typing import Any

from ingest.event.event import to_millis

START = date(2026, 1, 1)
_HOUR_MS, _DAY_MS = 3_600_000, 86_400_000
_DOOR = {"url": "https://shop.example/", "title": "Shop"}
_AGENTS = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 14_5) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 "
    "Safari/605.1.15",
    "Mozilla/5.0 (X11; Linux x86_64; rv:127.0) Gecko/20100101 Firefox/127.0",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 "
    "Mobile/15E148 Safari/604.1",
    "Mozilla/5.0 (Linux; Android 14; Pixel 8) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Mobile "
    "Safari/537.36",
)


@dataclass(frozen=True, slots=True)
class World:
    """What is simulated. `focus`: the share of views that follow the visitor's taste; `new_items`: their share.

    `shown`: the length of a visit's first list. Each position is examined with `look_on` times the probability of the
    one above, and an examined item is clicked with the `appeal` of an item of the visitor's taste, or of another.
    """

    visitors: int
    seed: int
    days: int = 14
    start: date = START
    items: int = 200
    tastes: int = 8
    focus: float = 0.8
    zipf: float = 0.8
    new_items: float = 0.1
    shown: int = 6
    look_on: float = 0.7
    appeal: tuple[float, float] = (0.4, 0.04)

    @property
    def run(self) -> str:
        """The run's name, which depends on every parameter, and so do the event ids."""
        return f"shoppers-s{self.seed}-v{self.visitors}-d{self.days}-{self.start.isoformat()}"


@dataclass(frozen=True, slots=True)
class Truth:
    """The planted truth: taste (0..tastes-1) by anonymous_id and by item_id, the examination probability of each
    position, and the share of visits that begin in each of a week's 168 hours, from Monday 0:00 UTC."""

    visitors: dict[str, int]
    items: dict[str, int]
    places: list[float]
    hours: list[float]


def truth(world: World) -> Truth:
    """The planted tastes."""
    return Truth(
        {visitor_id(world, n): _visitor_taste(world, n) for n in range(world.visitors)},
        {item_id(n): n % world.tastes for n in range(world.items)},
        [world.look_on**place for place in range(world.shown)],
        [_busy(hour) / sum(map(_busy, range(168))) for hour in range(168)],
    )


def visitor_id(world: World, number: int) -> str:
    return f"sim-{world.seed}-{number:06d}"


def item_id(number: int) -> str:
    return f"item-{number:04d}"


def events(world: World) -> Iterator[dict[str, object]]:
    """Native events, visitor by visitor, each visitor's in order of time."""
    shelves, hours = _shelves(world), _hours(world)
    for number in range(world.visitors):
        yield from _Visitor(world, number, shelves, hours).events()


def _busy(hour: int) -> float:
    """How many visits begin in an hour of the week, relative to others: most at 20:00, and half more at weekends."""
    return (1 + 0.8 * math.cos(2 * math.pi * (hour % 24 - 20) / 24)) * (1.5 if hour >= 5 * 24 else 1.0)


def _hours(world: World) -> list[float]:
    """Cumulated weights of all hours of the simulated days."""
    first = world.start.weekday() * 24
    return list(itertools.accumulate(_busy((first + hour) % 168) for hour in range(world.days * 24)))


def _visitor_taste(world: World, number: int) -> int:
    return random.Random(f"{world.seed}:taste:{number}").randrange(world.tastes)


class _Shelf:
    """Items of one taste with the weights of their popularity; rank is a seeded order, not the number's."""

    def __init__(self, items: list[int], zipf: float) -> None:
        self.items = items
        self.weights = list(itertools.accumulate(1 / (rank + 1) ** zipf for rank in range(len(items))))


def _shelves(world: World) -> list[_Shelf]:
    """One per taste, then one of all items."""
    order = list(range(world.items))
    random.Random(f"{world.seed}:items").shuffle(order)
    by_taste = [[item for item in order if item % world.tastes == taste] for taste in range(world.tastes)]
    return [_Shelf(items, world.zipf) for items in [*by_taste, order]]


class _Visitor:
    """One shopper's whole life, a function of seed and number."""

    def __init__(self, world: World, number: int, shelves: list[_Shelf], hours: list[float]) -> None:
        self._world, self._shelves, self._hours = world, shelves, hours
        self._random = random.Random(f"{world.seed}:visitor:{number}")
        self._taste = _visitor_taste(world, number)
        self._id = visitor_id(world, number)
        self._base = {
            "anonymous_id": self._id,
            "user_agent": self._random.choice(_AGENTS),
            "ip": f"198.51.100.{number % 254 + 1}",
        }
        self._known: set[int] = set()
        self._count = 0
        self._clock = 0

    def events(self) -> Iterator[dict[str, object]]:
        start = to_millis(datetime.combine(self._world.start, time(), UTC))
        visits = 2 + min(int(self._random.expovariate(1 / 3)), 12)
        begun = self._random.choices(range(len(self._hours)), cum_weights=self._hours, k=visits)
        for at in sorted((hour + self._random.random()) * _HOUR_MS for hour in begun):
            self._clock = max(self._clock, start + int(at))
            yield from self._visit((self._clock - start) / (self._world.days * _DAY_MS))

    def _visit(self, progress: float) -> Iterator[dict[str, object]]:
        yield self._event("page_view", page=_DOOR)
        yield from self._list(progress)
        cart: list[int] = []
        for _ in range(1 + min(int(self._random.expovariate(1 / 5)), 20)):
            item = self._pick(progress)
            yield self._event("page_view", item)
            if self._random.random() < (0.15 if item % self._world.tastes == self._taste else 0.05):
                cart.append(item)
                yield self._event("add_to_cart", item, quantity=1, **_price(item))
        if cart and self._random.random() < 0.5:
            order = f"{self._id}-{self._count}"
            for item in cart:
                yield self._event("purchase", item, quantity=1, order_id=order, **_price(item))

    def _list(self, progress: float) -> Iterator[dict[str, object]]:
        """The impressions of the visit's first list, its clicks, and the views that follow them."""
        shelf = self._shelves[-1]
        shown: list[int] = []
        while len(shown) < self._world.shown:
            item = self._random.choices(shelf.items, cum_weights=shelf.weights)[0]
            if item not in shown and not self._is_not_there_yet(item, progress):
                shown.append(item)
        self._clock += 1_000
        at: dict[str, Any] = {"list_id": "door", "impression_id": f"{self._id}-{self._count}"}
        for place, item in enumerate(shown):
            yield self._event("impression", item, pause=False, position=place, page=_DOOR, **at)
        for place, item in enumerate(shown):
            likes = self._world.appeal[0 if item % self._world.tastes == self._taste else 1]
            if self._random.random() < self._world.look_on**place * likes:
                yield self._event("click", item, position=place, page=_DOOR, **at)
                self._known.add(item)
                yield self._event("page_view", item)

    def _is_not_there_yet(self, item: int, progress: float) -> bool:
        return item >= self._world.items * (1 - self._world.new_items) and progress < 0.5

    def _pick(self, progress: float) -> int:
        """An item, mostly of the taste and mostly not seen before; new ones exist only in the second half."""
        for _ in range(8):
            shelf = self._shelves[self._taste if self._random.random() < self._world.focus else -1]
            item = self._random.choices(shelf.items, cum_weights=shelf.weights)[0]
            if self._is_not_there_yet(item, progress):
                continue
            if item not in self._known or self._random.random() < 0.2:
                break
        self._known.add(item)
        return item

    def _event(self, event_type: str, item: int | None = None, pause: bool = True, **fields: Any) -> dict[str, object]:
        self._clock += int(self._random.uniform(3_000, 90_000)) if pause else 0
        self._count += 1
        event: dict[str, object] = {
            "message_id": f"{self._world.run}:{self._id}:{self._count}",
            "event_type": event_type,
            "occurred_at": self._clock,
            "sequence": self._count,
            **self._base,
        }
        if item is not None:
            name = item_id(item)
            event |= {"item_id": name, "page": {"url": f"https://shop.example/items/{name}", "title": f"Item {item}"}}
        return event | fields


def _price(item: int) -> dict[str, Any]:
    return {"value": 5 + item % 37 + 0.99, "currency": "EUR"}
