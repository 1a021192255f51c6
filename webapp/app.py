"""The storefront: create_app(settings, store) builds it; webapp/wsgi.py is what a server starts.

GET /                 recommended for you, popular
GET /item/<path>      an item (webapp/urls.py: any id), people also viewed, recommended for you
GET /as/<visitor>     look at the shop as a visitor that the model knows; /as/ as somebody new
GET /health           JSON: status, export version, items
GET /metrics          Prometheus
"""

from __future__ import annotations

import time
from collections.abc import Callable

from flask import Flask, Response, g, render_template, request
from werkzeug.exceptions import HTTPException

from infra.settings import Settings
from webapp.recommendations import RecommendationStore
from webapp.state import State
from webapp.tiles import tile
from webapp.tracking import page_data, security_headers, write_key
from webapp.urls import RestConverter, item_url, visitor_url
from webapp.views import operations, shop
from webapp.visitors import current_visitor, remember


def create_app(settings: Settings, store: RecommendationStore) -> Flask:
    """The app; starts no thread. Raises ConfigurationError if `webapp.write_key` is no key of the collector."""
    write_key(settings)
    app = Flask(__name__)
    app.url_map.merge_slashes = False  # an item's id may hold two in a row
    app.url_map.converters["rest"] = RestConverter
    State(settings, store).init_app(app)
    app.register_blueprint(shop.blueprint)
    app.register_blueprint(operations.blueprint)
    app.register_error_handler(HTTPException, _error_page)
    app.context_processor(lambda: _for_templates(settings, store))
    app.before_request(_start_clock)
    app.after_request(remember)
    app.after_request(_finish(settings, store))
    return app


def _for_templates(settings: Settings, store: RecommendationStore) -> dict[str, object]:
    """Names that every template can use. The layout calls `page_data(item)`."""
    snapshot = g.get("snapshot") or store.snapshot
    version = snapshot.version if snapshot else None
    namenode = f"http://{settings.hdfs.host}:{settings.hdfs.http_port}" if settings.hdfs.managed else None
    return {
        "airflow_url": settings.airflow.address,
        "item_url": item_url,
        "namenode_url": namenode,
        "page_data": lambda item=None: page_data(settings, current_visitor(), version, item),
        "snapshot": snapshot,
        "tile": tile,
        "visitor": current_visitor(),
        "visitor_url": visitor_url,
    }


def _error_page(error: HTTPException) -> tuple[str, int] | HTTPException:
    """An HTTP error as a page of the shop; a redirect is returned as it is."""
    if error.code is None or error.code < 400:
        return error
    return render_template("error.html", error=error), error.code


def _start_clock() -> None:
    g.started = time.perf_counter()


def _finish(settings: Settings, store: RecommendationStore) -> Callable[[Response], Response]:
    """Headers and metrics of every response."""
    headers = security_headers(settings)

    def finish(response: Response) -> Response:
        endpoint = request.endpoint or "none"
        response.headers.update(headers)
        if endpoint.startswith("shop.") or endpoint == "none":
            response.headers["Cache-Control"] = "private, no-cache"  # each page is one visitor's
            response.vary.add("Cookie")
        store.metrics.requests.labels(endpoint, str(response.status_code)).inc()
        store.metrics.seconds.labels(endpoint).observe(time.perf_counter() - g.started)
        return response

    return finish
