"""Definitions of features: a feature is a number computed from a subject's events before a moment. Pure.

Three readers give the same values: `compute`, for one subject at one moment, as a server without Spark does;
`feature_values.snapshot`, for all subjects at one moment; `feature_values.at_moments`, for each subject at moments of
its own. An event counts at moment t when it happened before t, not at t itself, and in the window: at t - window or
later.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

Occurrence = tuple[
    int, str, float
]  # milliseconds since 1970, event type, clicks expected of an impression at its place

_HOUR, _DAY, _WEEK = 3_600_000, 86_400_000, 7 * 86_400_000
_MONDAY = 4 * _DAY  # the first one after 1970-01-01, a Thursday


@dataclass(frozen=True, slots=True)
class Count:
    """Number of events of these types in the window; without a window, ever."""

    name: str
    event_types: tuple[str, ...]
    window: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Expected:
    """Clicks expected of impressions by their places in lists alone, as if all items were alike."""

    name: str
    window: timedelta


@dataclass(frozen=True, slots=True)
class Decayed:
    """The events' weights by type, halved for every half-life of age."""

    name: str
    weights: Mapping[str, float] = field(hash=False)
    half_life: timedelta


@dataclass(frozen=True, slots=True)
class Rate:
    """(over + strength * prior) / (under + strength): `prior` is what is assumed of a subject without a history.

    Of two counts it is a share, and `over` counts no more than `under`: a tracker may send clicks without impressions.
    """

    name: str
    over: Count
    under: Count | Expected
    prior: float
    strength: float

    @property
    def is_share(self) -> bool:
        return isinstance(self.under, Count)


@dataclass(frozen=True, slots=True)
class Recency:
    """Days since the last event of these types; none without any."""

    name: str
    event_types: tuple[str, ...]


Feature = Count | Expected | Decayed | Rate | Recency

# How much more than a view an act tells of interest. Types that are not here (an impression, a search) tell nothing of
# the visitor's wish for the item.
WEIGHTS: Mapping[str, float] = {"page_view": 1.0, "click": 1.0, "add_to_cart": 3.0, "purchase": 5.0}

_ONE_DAY, _SEVEN_DAYS, _THIRTY_DAYS = (timedelta(days=days) for days in (1, 7, 30))
_VIEW, _IMPRESSION, _CLICK = ("page_view",), ("impression",), ("click",)
_CART, _PURCHASE = ("add_to_cart",), ("purchase",)
_ACTS = ("page_view", "click", "add_to_cart", "purchase", "search")

_VIEWS = [
    Count("views_1d", _VIEW, _ONE_DAY),
    Count("views_7d", _VIEW, _SEVEN_DAYS),
    Count("views_30d", _VIEW, _THIRTY_DAYS),
]
_IMPRESSIONS, _CLICKS = Count("impressions_30d", _IMPRESSION, _THIRTY_DAYS), Count("clicks_30d", _CLICK, _THIRTY_DAYS)
_CARTS, _PURCHASES = Count("carts_30d", _CART, _THIRTY_DAYS), Count("purchases_30d", _PURCHASE, _THIRTY_DAYS)
_EXPECTED = Expected("expected_clicks_30d", _THIRTY_DAYS)

# Clicks over expected clicks: Zhang and Jones, Comparing Click Logs and Editorial Labels (2007), which takes the bias
# of the position out of the rate.
ITEM: Sequence[Feature] = (
    *_VIEWS,
    _IMPRESSIONS,
    _CLICKS,
    _CARTS,
    _PURCHASES,
    _EXPECTED,
    Decayed("demand", WEIGHTS, _SEVEN_DAYS),
    Rate("click_rate_30d", _CLICKS, _IMPRESSIONS, prior=0.05, strength=20.0),
    Rate("click_lift_30d", _CLICKS, _EXPECTED, prior=1.0, strength=1.0),
    Rate("cart_rate_30d", _CARTS, _VIEWS[2], prior=0.05, strength=20.0),
    Recency("days_since_view", _VIEW),
)
VISITOR: Sequence[Feature] = (
    *_VIEWS,
    _IMPRESSIONS,
    _CLICKS,
    _CARTS,
    _PURCHASES,
    Rate("click_rate_30d", _CLICKS, _IMPRESSIONS, prior=0.05, strength=20.0),
    Decayed("activity", WEIGHTS, _SEVEN_DAYS),
    Recency("days_since_act", _ACTS),
)
PAIR: Sequence[Feature] = (
    *_VIEWS[1:],
    Count("impressions_1d", _IMPRESSION, _ONE_DAY),
    _IMPRESSIONS,
    _CLICKS,
    _CARTS,
    Decayed("affinity", WEIGHTS, _SEVEN_DAYS),
    Recency("days_since_act", _ACTS),
)
LONGEST_WINDOW = _THIRTY_DAYS

# Of two items; their events are what `follows` gives. None remembers more than COVISIT_DAYS.
COVISIT: Sequence[Feature] = tuple(_VIEWS[1:])
COVISIT_DAYS = 30
FOLLOW_GAP, FOLLOW_REACH = timedelta(minutes=30), 5


def follows(views: Iterable[tuple[int, str]]) -> list[tuple[str, str, Occurrence]]:
    """What one visitor's views (milliseconds since 1970, item) say of pairs of items: (from, to, event).

    A view follows those of the up to FOLLOW_REACH views before it that are not older than FOLLOW_GAP; each other item
    once.
    """
    ordered, found = sorted(views), []
    for number, (time, item) in enumerate(ordered):
        near = ordered[max(0, number - FOLLOW_REACH) : number]
        earlier = {other for at, other in near if at >= time - millis(FOLLOW_GAP) and other != item}
        found += [(other, item, (time, "page_view", 0.0)) for other in sorted(earlier)]
    return found


def compute(features: Sequence[Feature], events: Iterable[Occurrence], at: int) -> dict[str, float | None]:
    """Each feature's value at `at`, milliseconds since 1970; the events may come in any order."""
    before = [event for event in events if event[0] < at]
    return {feature.name: _value(feature, before, at) for feature in features}


def _value(feature: Feature, before: list[Occurrence], at: int) -> float | None:
    match feature:
        case Count(_, types, window):
            return sum(type_ in types and _within(time, at, window) for time, type_, _ in before)
        case Expected(_, window):
            return sum(clicks for time, type_, clicks in before if type_ in _IMPRESSION and _within(time, at, window))
        case Decayed(_, weights, half_life):
            ages = [(weights.get(type_, 0.0), (at - time) / millis(half_life)) for time, type_, _ in before]
            return math.fsum(weight * math.pow(0.5, age) for weight, age in ages)
        case Rate(_, over, under, prior, strength):
            hits, tries = _value(over, before, at) or 0.0, _value(under, before, at) or 0.0
            return ((min(hits, tries) if feature.is_share else hits) + strength * prior) / (tries + strength)
        case Recency(_, types):
            last = max((time for time, type_, _ in before if type_ in types), default=None)
            return None if last is None else (at - last) / _DAY


def _within(time: int, at: int, window: timedelta | None) -> bool:
    return window is None or time >= at - millis(window)


def millis(duration: timedelta) -> int:
    return duration // timedelta(milliseconds=1)


def season(at: int) -> dict[str, float]:
    """Where in the day and in the week (UTC, from Monday) a moment lies, as points on two circles."""
    day, week = 2 * math.pi * (at % _DAY) / _DAY, 2 * math.pi * ((at - _MONDAY) % _WEEK) / _WEEK
    return {"day_sin": math.sin(day), "day_cos": math.cos(day), "week_sin": math.sin(week), "week_cos": math.cos(week)}


def hour_of_week(at: int) -> int:
    """0 to 167, from Monday 0:00 UTC on."""
    return (at - _MONDAY) % _WEEK // _HOUR
