"""The algorithms by name, each with where it is: the command line lists them without importing numpy or Spark."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from processing.training.impressions import Impressions, Matrix
    from processing.training.item_models import Recommender
    from processing.training.session_models import Learner

RECOMMENDERS = {
    "popularity": "processing.training.item_models:Popularity",
    "biases": "processing.training.item_models:Biases",
    "als": "processing.training.als_ratings:Als",
    "cooccurrence": "processing.training.item_models:Cooccurrence",
    "ease": "processing.training.item_models:Ease",
}
NEXT_ITEM = {
    "popularity": "processing.training.session_models:Popularity",
    "markov": "processing.training.session_models:Markov",
    "vsknn": "processing.training.session_models:Vsknn",
    "blend": "processing.training.session_models:Blend",
}
# MLlib's, made by processing.training.classifiers: the parameters among which inner folds choose.
CLASSIFIERS: Mapping[str, Sequence[Mapping[str, Any]]] = {
    "gbt": ({"maxDepth": 3}, {"maxDepth": 5}),
    "forest": ({"maxDepth": 7}, {"maxDepth": 11}),
    "logistic": ({"regParam": 0.0001}, {"regParam": 0.01}),
}
ORDERS = {
    "given": "processing.training.impressions:as_given",
    "touched": "processing.training.impressions:touched_first",
}
RERANKERS = (*ORDERS, "logistic", "gbt")
SPARK = frozenset({"als", *CLASSIFIERS})  # these need a session


def recommender(name: str) -> type[Recommender]:
    """One of RECOMMENDERS."""
    found: type[Recommender] = resolve_name(RECOMMENDERS[name])
    return found


def next_item(name: str) -> Learner:
    """One of NEXT_ITEM: what makes a model of sessions."""
    found: Learner = resolve_name(NEXT_ITEM[name])
    return found


def order(name: str) -> Callable[[Impressions], Matrix]:
    """One of ORDERS: scores without any model."""
    found: Callable[[Impressions], Matrix] = resolve_name(ORDERS[name])
    return found
