"""Lists that a visitor was shown, and what was known of each item just before the click. Pure: actions in, numpy out.

The actions are replayed by their times. A clickout's features are taken from the state before it, which holds what the
session did so far, what the user touched in earlier sessions, and how often items of earlier lists were clicked; the
last is learnt from the train part alone and stands still from its end on.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

CLICKOUT = "clickout item"
TOUCHES = (
    "interaction item image",
    "interaction item info",
    "interaction item rating",
    "interaction item deals",
    "search for item",
    CLICKOUT,
)
FEATURES = (
    "position",  # from 0
    "log_position",
    "list_length",
    "price",
    "price_rank",  # 0 for the cheapest of the list to 1
    "price_to_median",
    "touches",  # by this session: log of 1 + number
    "images",
    "details",  # info, rating, deals, a search for it
    "clicks",
    "recency",  # 1 for what the session touched last, then 1/2, 1/3 …; 0 for what it did not touch
    "seconds_since_touch",  # log of 1 + seconds; missing for what the session did not touch
    "is_last_touched",
    "places_after_last",  # in the list, from the last touched item; missing when that is not in the list
    "is_next_to_last",
    "touched_in_list",  # how many items of the list the session touched
    "shown_before",  # in how many lists of the session
    "touched_by_user",  # in earlier sessions
    "click_rate",  # of the item in train, drawn to the mean
    "log_shown",
    "log_step",
)
_DRAWN = 20.0  # lists without any preference that an item begins with


@dataclass(frozen=True, slots=True)
class Action:
    """One line of a RecSys Challenge 2019 log. `time` in seconds; a clickout may have the list that was shown."""

    user: str
    session: str
    time: float
    step: int
    kind: str
    reference: str
    impressions: tuple[str, ...] = ()
    prices: tuple[float, ...] = ()


@dataclass(frozen=True)
class Impressions:
    """A row an item shown: `features` (rows x FEATURES), `labels` (clicked or not), `lists` (number of the list).

    A list each: `users` (a number for each user), `sessions` likewise, `train` (whether it is of the train part).
    """

    features: Matrix
    labels: Indices
    lists: Indices
    users: Indices
    sessions: Indices
    train: npt.NDArray[np.bool_]
    without_list: int
    clicked_elsewhere: int


@dataclass
class _Session:
    """A session's actions so far."""

    touches: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    touched_at: dict[str, tuple[int, float]] = field(default_factory=dict)  # item -> how many touches in all, when
    shown: Counter[str] = field(default_factory=Counter)
    count: int = 0
    last: str | None = None

    def add(self, action: Action) -> None:
        self.shown.update(action.impressions)
        if action.kind in TOUCHES:
            self.count += 1
            self.touches[action.reference][action.kind] += 1
            self.touched_at[action.reference] = (self.count, action.time)
            self.last = action.reference


@dataclass
class _Rates:
    """Counts of how often items were shown and clicked."""

    shown: Counter[str] = field(default_factory=Counter)
    clicked: Counter[str] = field(default_factory=Counter)
    lists: int = 0
    items: int = 0

    def add(self, action: Action) -> None:
        self.shown.update(action.impressions)
        self.clicked[action.reference] += 1
        self.lists += 1
        self.items += len(action.impressions)

    def rate(self, item: str) -> float:
        mean = self.lists / self.items if self.items else 0.0
        return (self.clicked[item] + _DRAWN * mean) / (self.shown[item] + _DRAWN)


def replay(actions: Iterable[Action], share: float) -> Impressions:
    """The lists of all clickouts, the first `share` of which (by time) are the train part.

    Left out and counted are clickouts without a list and those of an item that is not in its list.
    """
    ordered = sorted(actions, key=lambda action: (action.time, action.session, action.step))
    usable = [action for action in ordered if action.kind == CLICKOUT and action.reference in action.impressions]
    clickouts = [action for action in ordered if action.kind == CLICKOUT]
    ends = float(np.quantile([action.time for action in usable], share)) if usable else 0.0
    sessions: dict[str, _Session] = defaultdict(_Session)
    before: dict[str, dict[str, str]] = defaultdict(dict)  # user -> item -> the first session that touched it
    rates = _Rates()
    rows: list[list[float]] = []
    for action in ordered:
        session = sessions[action.session]
        if action.kind == CLICKOUT and action.reference in action.impressions:
            rows += _rows(action, session, before[action.user], rates)
            if action.time < ends:
                rates.add(action)
        session.add(action)
        if action.kind in TOUCHES:
            before[action.user].setdefault(action.reference, action.session)
    sizes = [len(action.impressions) for action in usable]
    return Impressions(
        features=np.array(rows, dtype=np.float64).reshape(-1, len(FEATURES)),
        labels=np.array([item == action.reference for action in usable for item in action.impressions], np.int64),
        lists=np.repeat(np.arange(len(usable)), sizes),
        users=_numbers([action.user for action in usable]),
        sessions=_numbers([action.session for action in usable]),
        train=np.array([action.time < ends for action in usable], dtype=bool),
        without_list=sum(not action.impressions for action in clickouts),
        clicked_elsewhere=sum(bool(action.impressions) for action in clickouts) - len(usable),
    )


def touched_first(impressions: Impressions) -> Matrix:
    """A score by which what the session touched comes first, the latest before all; the rest as it was shown."""
    scores: Matrix = impressions.features[:, FEATURES.index("recency")]
    return scores


def as_given(impressions: Impressions) -> Matrix:
    """A score by which all stays as it was shown."""
    return np.zeros(len(impressions.labels))


def reciprocal_ranks(impressions: Impressions, scores: Matrix) -> Matrix:
    """1 / the clicked item's place (from 1 on) in each list by descending score; ties as they were shown."""
    position = impressions.features[:, FEATURES.index("position")]
    order = np.lexsort((position, -scores, impressions.lists))
    starts = np.flatnonzero(np.diff(impressions.lists[order], prepend=-1))
    places = np.arange(len(order)) - np.repeat(starts, np.diff(np.r_[starts, len(order)])) + 1
    reciprocal = np.where(impressions.labels[order] == 1, 1.0 / places, 0.0)
    ranks: Matrix = np.maximum.reduceat(reciprocal, starts) if len(starts) else np.zeros(0)
    return ranks


def _rows(action: Action, session: _Session, before: dict[str, str], rates: _Rates) -> list[list[float]]:
    """A row of FEATURES for each item of the clickout's list."""
    items, prices = action.impressions, np.array(action.prices or [math.nan] * len(action.impressions))
    median = float(np.median(prices)) or math.nan
    cheaper = prices.argsort(kind="stable").argsort(kind="stable") / max(1, len(items) - 1)
    last = items.index(session.last) if session.last in items else None
    in_list = sum(item in session.touched_at for item in items)
    rows = []
    for position, item in enumerate(items):
        touches = session.touches[item] if item in session.touched_at else Counter[str]()
        number, at = session.touched_at.get(item, (0, math.nan))
        away = math.nan if last is None else position - last
        rows.append(
            [
                position,
                math.log1p(position),
                len(items),
                float(prices[position]),
                float(cheaper[position]),
                float(prices[position]) / median,
                math.log1p(touches.total()),
                math.log1p(touches[TOUCHES[0]]),
                math.log1p(sum(touches[kind] for kind in TOUCHES[1:5])),
                math.log1p(touches[CLICKOUT]),
                1 / (session.count - number + 1) if number else 0.0,
                math.log1p(action.time - at),
                item == session.last,
                away,
                away == 1,
                in_list,
                session.shown[item],
                before.get(item, action.session) != action.session,
                rates.rate(item),
                math.log1p(rates.shown[item]),
                math.log1p(action.step),
            ]
        )
    return rows


def _numbers(names: list[str]) -> Indices:
    numbers: Indices = np.unique(names, return_inverse=True)[1].astype(np.int64)
    return numbers
