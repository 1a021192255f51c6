"""The algorithms by name, each with where it is: the command line lists them without importing numpy or Spark."""

from __future__ import annotations

from pkgutil import resolve_name
from typing import TYPE_CHECKING

if TYPE_CHECKING:
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
CLASSIFIERS = ("gbt", "forest", "logistic")  # MLlib's, in processing.training.classifiers
RERANKERS = ("given", "touched", "logistic", "gbt")
SPARK = frozenset({"als", *CLASSIFIERS})  # these need a session


def recommender(name: str) -> type[Recommender]:
    """One of RECOMMENDERS."""
    found: type[Recommender] = resolve_name(RECOMMENDERS[name])
    return found


def next_item(name: str) -> Learner:
    """One of NEXT_ITEM: what makes a model of sessions."""
    found: Learner = resolve_name(NEXT_ITEM[name])
    return found
