"""What granian runs (`clickstream webapp`): the app on the settings in force, in the worker process."""

from __future__ import annotations

from infra import serving
from infra.settings import Settings
from webapp.app import create_app
from webapp.exports import HdfsExports
from webapp.recommendations import RecommendationStore


def application() -> serving.Drainable:
    """The factory; an entry point, so it reads the settings. Starts the thread that looks for new exports."""
    serving.log_as_json()
    settings = Settings.from_env()
    serving.end_with_parent()
    store = RecommendationStore(HdfsExports(settings))
    app = create_app(settings, store)
    store.start(settings.webapp.refresh_seconds)
    return serving.Drainable(app)
