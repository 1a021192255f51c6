"""Recipes: an algorithm's name and its parameters, as JSON stores them; how one is completed, fitted and loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from infra.errors import ConfigurationError
from processing.algorithms import algorithm
from processing.algorithms.blend import Blend
from processing.algorithms.by_history import ByHistory

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from processing.algorithms.interface import Model, Parameters, TrainingSet

# Recipes made of others, their parameter `members`: a blend gives each a `weight`; by_history gives the lists of the
# first to those who have met at most `most` items, and those of the second to others.
BLEND, BY_HISTORY = _COMPOSED = "blend", "by_history"


@dataclass(frozen=True)
class Recipe:
    """Everything that decides what is learnt from given data; `parameters` are plain values that JSON can hold."""

    algorithm: str
    parameters: Parameters = field(default_factory=dict, hash=False)

    def to_dict(self) -> dict[str, Any]:
        return {"algorithm": self.algorithm, "parameters": dict(self.parameters)}

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Recipe:
        return cls(document["algorithm"], document["parameters"])


def complete(recipe: Recipe) -> Recipe:
    """The recipe with all its parameters, so that it means the same after defaults have changed.

    Raises ConfigurationError for an unknown algorithm or parameter.
    """
    if recipe.algorithm in _COMPOSED:
        members = [{**one, **complete(Recipe.from_dict(one)).to_dict()} for one in recipe.parameters["members"]]
        return Recipe(recipe.algorithm, {**recipe.parameters, "members": members})
    defaults = algorithm(recipe.algorithm).defaults
    if unknown := recipe.parameters.keys() - defaults.keys():
        raise ConfigurationError([f"{recipe.algorithm} has no parameter {', '.join(sorted(unknown))}"])
    return Recipe(recipe.algorithm, {**defaults, **recipe.parameters})


def fit(data: TrainingSet, recipe: Recipe) -> Model | None:
    """None when there is nothing to learn from. A parameter that is not given has its default."""
    if recipe.algorithm in _COMPOSED:
        members = [fit(data, Recipe.from_dict(one)) for one in recipe.parameters["members"]]
        known = [model for model in members if model is not None]
        return _composed(recipe, known) if len(known) == len(members) else None
    return algorithm(recipe.algorithm).fit(data, dict(complete(recipe).parameters))


def load(spark: SparkSession, recipe: Recipe, url: str) -> Model:
    """The model of `recipe` that `save` wrote below `url`."""
    if recipe.algorithm in _COMPOSED:
        members = enumerate(recipe.parameters["members"])
        return _composed(recipe, [load(spark, Recipe.from_dict(one), f"{url}/member={n}") for n, one in members])
    return algorithm(recipe.algorithm).load(spark, dict(complete(recipe).parameters), url)


def _composed(recipe: Recipe, members: list[Model]) -> Model:
    if recipe.algorithm == BLEND:
        weights = [float(one["weight"]) for one in recipe.parameters["members"]]
        return Blend(tuple(zip(members, weights, strict=True)))
    few, many = members
    return ByHistory(few, many, recipe.parameters["most"])
