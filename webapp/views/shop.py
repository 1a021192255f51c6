"""The pages of the shop."""

from __future__ import annotations

import uuid

from flask import Blueprint, abort, g, redirect, render_template, request, url_for
from werkzeug.wrappers import Response

from webapp.carousels import Carousel, also_viewed, popular, recommended
from webapp.snapshot import Snapshot
from webapp.state import state
from webapp.urls import item_ids, item_url
from webapp.visitors import MAX_LENGTH, become, current_visitor

CAROUSEL = 12
GRID = 24

blueprint = Blueprint("shop", __name__)


@blueprint.before_request
def take_snapshot() -> None:
    """Keeps one snapshot for the whole request, so that a page never mixes two versions."""
    g.snapshot = state().store.snapshot


@blueprint.get("/")
def home() -> str:
    """Recommended and popular items; without an export, how to get one."""
    snapshot: Snapshot | None = g.snapshot
    if snapshot is None:
        return render_template("nothing_learnt.html")
    visitor = current_visitor()
    history = state().recent.of(visitor)
    return render_template(
        "home.html",
        for_you=_counted(recommended(snapshot, "home.recommended", visitor, history, CAROUSEL)),
        popular=_counted(popular(snapshot, "home.popular", GRID)),
        history=[snapshot.items[item] for item in reversed(history) if item in snapshot.items],
        samples=snapshot.sample_visitors(4),
    )


@blueprint.get("/item")
@blueprint.get("/item/<rest:rest>")
def item(rest: str | None = None) -> str | Response:
    """An item's page; 404 for an id that the export doesn't have."""
    snapshot: Snapshot | None = g.snapshot
    wanted = (request.args.get("id", ""),) if rest is None else item_ids(rest)
    item_id = next((candidate for candidate in wanted if snapshot and candidate in snapshot.items), None)
    if snapshot is None or item_id is None:
        abort(404, "There is no such page in the data that the shop has learnt from.")
    if item_id != wanted[0]:
        return redirect(item_url(item_id))
    visitor, recent = current_visitor(), state().recent
    earlier = [seen for seen in recent.of(visitor) if seen != item_id]
    recent.add(visitor, item_id)
    also = also_viewed(snapshot, "item.also_viewed", item_id, CAROUSEL)
    shown = {item_id, *(other.item_id for other in also.items)}
    for_you = recommended(snapshot, "item.recommended", visitor, earlier, CAROUSEL, shown)
    return render_template(
        "item.html", item=snapshot.items[item_id], also_viewed=_counted(also), for_you=_counted(for_you)
    )


@blueprint.get("/as/<rest:visitor>")
def become_visitor(visitor: str) -> Response:
    """Switches to the named visitor, or to a new one if none is named."""
    snapshot: Snapshot | None = g.snapshot
    if not visitor:
        become(str(uuid.uuid4()))
    elif snapshot and visitor in snapshot.for_visitors and len(visitor) <= MAX_LENGTH:
        become(visitor)
    else:
        abort(404, "The model knows no such visitor.")
    return redirect(url_for("shop.home"))


def _counted(carousel: Carousel) -> Carousel:
    state().store.metrics.carousels.labels(carousel.list_id, carousel.source).inc()
    return carousel
