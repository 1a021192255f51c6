"""Names of what orders impressions, each with its place: listed without importing numpy or Spark."""

from __future__ import annotations

from collections.abc import Callable
from pkgutil import resolve_name
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from processing.bench.clicks.impressions import Impressions, Matrix

ORDERS = {
    "given": "processing.bench.clicks.impressions:as_given",
    "touched": "processing.bench.clicks.impressions:touched_first",
}
RERANKERS = (*ORDERS, "logistic", "gbt")


def order(name: str) -> Callable[[Impressions], Matrix]:
    """One of ORDERS: scores without any model."""
    found: Callable[[Impressions], Matrix] = resolve_name(ORDERS[name])
    return found
