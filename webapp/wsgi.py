"""The WSGI factory of `clickstream webapp`, which granian calls in each worker."""

from __future__ import annotations

from flask import Flask

from infra.settings import Settings
from infra.web import serving
from webapp.app import create_app
from webapp.exports import HdfsExports
from webapp.recommendations import RecommendationStore


def application() -> Flask:
    """The app, with the settings from the environment; starts the thread that polls for new exports."""
    serving.log_as_json()
    settings = Settings.from_env()
    store = RecommendationStore(HdfsExports(settings))
    app = create_app(settings, store)
    store.start(settings.webapp.refresh_seconds)
    return app
