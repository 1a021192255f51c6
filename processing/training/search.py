"""Which recipe is best: Optuna over algorithms and parameters, by nDCG@10 on a time split inside the train part.

Each algorithm's own parameters come first, then TPE (Bergstra et al. 2011) with a fixed seed looks further, until the
budget is spent; at the end the best recipes of the three best algorithms are blended with a few weights. Explicit ALS
has its parameters from a grid on RMSE, by MLlib's CrossValidator, or by its TrainValidationSplit of many ratings. With
one job at a time and no limit of minutes the same data and budget give the same recipe.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pyspark.ml.evaluation import RegressionEvaluator
from pyspark.ml.tuning import CrossValidator, ParamGridBuilder, TrainValidationSplit
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from infra.errors import DependencyError
from processing.training import als, evaluation, recommenders
from processing.training.comparison import K, ndcg
from processing.training.evaluation import Holdout
from processing.training.recipe import Recipe
from processing.training.recommenders import BLEND, CANDIDATES

MIN_USERS = 20  # with fewer the choice would be a toss of a coin
_FEW = 500_000  # ratings; of more one split tells as much as three folds
_FOLDS, _PARTITIONS, _SEED = 3, 16, 42
_GRID: Mapping[str, Sequence[Any]] = {"rank": (8, 16), "regularization": (0.05, 0.2)}
_WEIGHTS = ((1.0, 1.0, 1.0), (1.0, 0.5, 0.5), (1.0, 0.5, 0.25), (1.0, 1.0, 0.0), (1.0, 0.5, 0.0))


@dataclass(frozen=True, slots=True)
class Budget:
    """At most so many `trials` of these algorithms in this order, `jobs` at once, until `minutes` have passed (0: no
    limit)."""

    algorithms: tuple[str, ...]
    trials: int
    minutes: float = 0.0
    jobs: int = 1


@dataclass(frozen=True, slots=True)
class Trial:
    """A recipe and what it reached; None: there was nothing to learn from."""

    recipe: Recipe
    ndcg: float | None

    def to_dict(self) -> dict[str, Any]:
        return self.recipe.to_dict() | {"ndcg": self.ndcg}


@dataclass(frozen=True, slots=True)
class Found:
    """The best recipe, all trials in their order, and how many users decided."""

    best: Recipe
    trials: list[Trial]
    n_users: int


def search(held: Holdout | None, budget: Budget) -> Found:
    """The recipe with the best nDCG, the first of equals. With fewer than MIN_USERS users nothing is tried: then it is
    the first algorithm with its own parameters."""
    n_users = held.users.count() if held is not None else 0
    if held is None or n_users < MIN_USERS or budget.trials < 1:
        return Found(recommenders.complete(Recipe(budget.algorithms[0])), [], n_users)
    tried = _Tried(held)
    _study(budget, tried)
    best = tried.best_of_each()
    if len(best) > 1:
        tried.blends(best[:3])
    trials = tried.trials
    return Found(max(trials, key=lambda trial: trial.ndcg or 0.0).recipe, trials, n_users)


class _Tried:
    """What was tried on one holdout; a recipe that comes again is not fitted again."""

    def __init__(self, held: Holdout) -> None:
        self._held, self._seen = held, held.train.interactions
        self._results: dict[str, tuple[Trial, DataFrame | None]] = {}
        self._grid: dict[str, Any] = {}

    def grid(self, jobs: int) -> dict[str, Any]:
        """The grid's choice for explicit ALS, made once."""
        self._grid = self._grid or explicit_grid(self._seen, jobs)
        return self._grid

    @property
    def trials(self) -> list[Trial]:
        return [trial for trial, _ in self._results.values()]

    def reach(self, recipe: Recipe) -> float:
        """The nDCG of a recipe's lists, 0 where there is nothing to learn from."""
        recipe = recommenders.complete(recipe)
        key = json.dumps(recipe.to_dict(), sort_keys=True)
        if key not in self._results:
            model = recommenders.fit(self._held.train, recipe)
            top = None if model is None else model.top(self._held.users, self._seen, CANDIDATES).persist()
            reached = ndcg(evaluation.lists({"tried": _first(top)}, self._held), "tried") if top is not None else None
            self._results[key] = Trial(recipe, reached), top
        return self._results[key][0].ndcg or 0.0

    def best_of_each(self) -> list[tuple[Trial, DataFrame]]:
        """The best recipe of each algorithm that reached anything, best first."""
        found: dict[str, tuple[Trial, DataFrame]] = {}
        for trial, top in sorted(self._results.values(), key=lambda one: -(one[0].ndcg or 0.0)):
            if top is not None and trial.ndcg:
                found.setdefault(trial.recipe.algorithm, (trial, top))
        return list(found.values())

    def blends(self, members: list[tuple[Trial, DataFrame]]) -> None:
        """Tries all weights at once: the members' lists are there."""
        tops = {}
        recipes = {}
        for weights in dict.fromkeys(weights[: len(members)] for weights in _WEIGHTS):
            used = [
                (trial.recipe, top, weight) for (trial, top), weight in zip(members, weights, strict=True) if weight
            ]
            if len(used) < 2:
                continue
            name = "_".join(str(int(weight * 100)) for weight in weights)
            documents = [recipe.to_dict() | {"weight": weight} for recipe, _, weight in used]
            recipes[name] = Recipe(BLEND, {"members": documents})
            tops[name] = recommenders.fuse([(top, weight) for _, top, weight in used], K)
        users = evaluation.lists(tops, self._held)
        for name, recipe in recipes.items():
            self._results[name] = Trial(recipe, ndcg(users, name)), None


def _first(top: DataFrame | None) -> DataFrame | None:
    return None if top is None else top.filter(F.col("rank") < K)


def _study(budget: Budget, tried: _Tried) -> None:
    """Runs the trials. Raises DependencyError where Optuna is missing."""
    try:
        import optuna
    except ImportError as error:
        raise DependencyError("searching for a recipe needs Optuna: pip install 'clickstream[mlops]'") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)

    def objective(trial: Any) -> float:
        algorithm = trial.suggest_categorical("algorithm", budget.algorithms)
        if algorithm == "als_explicit":
            return tried.reach(Recipe(algorithm, tried.grid(budget.jobs)))
        return tried.reach(Recipe(algorithm, {name: ask(trial) for name, ask in _space(algorithm).items()}))

    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=42))
    for algorithm in budget.algorithms[: budget.trials]:
        defaults = recommenders.ALGORITHMS[algorithm].defaults
        asked = {f"{algorithm}.{name}": defaults[name] for name in _space(algorithm)}
        study.enqueue_trial({"algorithm": algorithm, **asked})
    study.optimize(objective, n_trials=budget.trials, timeout=budget.minutes * 60 or None, n_jobs=budget.jobs)


def _space(algorithm: str) -> Mapping[str, Callable[[Any], Any]]:
    """Parameter -> how a trial is asked for its value."""

    def number(name: str, low: float, high: float) -> Callable[[Any], Any]:
        return lambda trial: trial.suggest_float(f"{algorithm}.{name}", low, high, log=low > 0)

    def one_of(name: str, *values: Any) -> Callable[[Any], Any]:
        return lambda trial: trial.suggest_categorical(f"{algorithm}.{name}", values)

    spaces: Mapping[str, Mapping[str, Callable[[Any], Any]]] = {
        "als": {
            "rank": one_of("rank", 8, 16, 32),
            "regularization": number("regularization", 0.01, 1.0),
            "alpha": number("alpha", 1.0, 40.0),
        },
        "ease": {
            "regularization": number("regularization", 1.0, 2_000.0),
            "weighted": one_of("weighted", False, True),
        },
        "cooccurrence": {
            "similarity": one_of("similarity", "jaccard", "cosine"),
            "half_life_days": one_of("half_life_days", 0.0, 1.0, 7.0, 30.0),
        },
        "sessions": {
            "steps": one_of("steps", 1, 3, 5, 10, 20),
            "half_life_days": number("half_life_days", 1.0, 90.0),
            "backward": number("backward", 0.0, 1.0),
        },
        "popular": {"window_days": one_of("window_days", 0.0, 1.0, 3.0, 7.0)},
    }
    return spaces.get(algorithm, {})


def explicit_grid(interactions: DataFrame, jobs: int, few: int = _FEW) -> dict[str, Any]:
    """Of the grid's parameters of explicit ALS those of the least RMSE: in a cross-validation, of more than `few` pairs
    on a single split. Folds and partitions are hashes of the pairs, so that the same pairs give the same."""
    indexed, _, _ = als.index(interactions)
    folded = indexed.withColumn("fold", F.pmod(F.xxhash64("visitor", "item"), F.lit(_FOLDS)).cast("int")).persist()
    count = folded.count()
    estimator = als.estimator(als.Recipe(explicit=True), count)
    grid = ParamGridBuilder().addGrid(estimator.rank, [*_GRID["rank"]])
    grid = grid.addGrid(estimator.regParam, [*_GRID["regularization"]])
    rmse = RegressionEvaluator(metricName="rmse", labelCol="rating", predictionCol="prediction")
    choices = grid.build()
    tried: dict[str, Any] = {
        "estimator": estimator,
        "estimatorParamMaps": choices,
        "evaluator": rmse,
        "parallelism": jobs,
    }
    if count <= few:
        errors = CrossValidator(**tried, numFolds=_FOLDS, foldCol="fold").fit(folded).avgMetrics
    else:
        pairs = folded.repartition(_PARTITIONS, "visitor", "item")
        errors = TrainValidationSplit(**tried, trainRatio=1 - 1 / _FOLDS, seed=_SEED).fit(pairs).validationMetrics
    errors = [float("inf") if math.isnan(error) else error for error in errors]
    best = choices[errors.index(min(errors))]
    return {"rank": best[estimator.rank], "regularization": best[estimator.regParam]}
