"""The state that all views of an app share."""

from __future__ import annotations

from dataclasses import dataclass, field

from flask import Flask, current_app

from infra.settings import Settings
from webapp.recommendations import RecommendationStore
from webapp.visitors import RecentViews

_KEY = "clickstream"


@dataclass(frozen=True, slots=True)
class State:
    """One app's settings, its exports and its visitors' recent views."""

    settings: Settings
    store: RecommendationStore
    recent: RecentViews = field(default_factory=RecentViews)

    def init_app(self, app: Flask) -> None:
        """Attaches the state to the app."""
        app.extensions[_KEY] = self


def state() -> State:
    """The current app's."""
    found: State = current_app.extensions[_KEY]
    return found
