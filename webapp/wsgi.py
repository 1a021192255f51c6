"""What a WSGI server starts: `granian --interface wsgi --factory webapp.wsgi:create`, or `clickstream webapp`."""

from __future__ import annotations

from flask import Flask

from infra.settings import Settings
from webapp.app import create_app
from webapp.exports import HdfsExports
from webapp.recommendations import RecommendationStore


def create() -> Flask:
    """The app on the settings in force, with the thread that looks for new exports."""
    settings = Settings.from_env()
    store = RecommendationStore(HdfsExports(settings))
    app = create_app(settings, store)
    store.start(settings.webapp.refresh_seconds)
    return app
