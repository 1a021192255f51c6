"""Health and metrics."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from webapp.state import state

blueprint = Blueprint("operations", __name__)


@blueprint.get("/health")
def health() -> Response:
    """200 if pages can be shown, which needs no export; `status` is degraded if the last refresh failed."""
    store = state().store
    snapshot = store.snapshot
    return jsonify(
        status="degraded" if store.error else "ok",
        version=snapshot.version if snapshot else None,
        items=len(snapshot.items) if snapshot else 0,
        visitors=len(snapshot.for_visitors) if snapshot else 0,
        error=store.error,
    )


@blueprint.get("/metrics")
def metrics() -> Response:
    """The metrics in Prometheus's text format."""
    return Response(generate_latest(state().store.metrics.registry), content_type=CONTENT_TYPE_LATEST)
