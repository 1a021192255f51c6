"""Which recipe is best: Optuna over algorithms and parameters, by nDCG@10 on a time split inside the train part.

Each algorithm's own parameters come first, then TPE (Bergstra et al. 2011) with a fixed seed looks further, until the
budget is spent; at the end the best recipes of the three best algorithms are blended with a few weights, and whatever
is best is tried together with what does best for those who have met few items. An algorithm that has a way of its own
to choose parameters is asked once. With one job at a time and no limit of minutes the same data and budget give the
same recipe.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from infra.errors import DependencyError
from processing.algorithms import algorithm, recipes
from processing.algorithms.blend import CANDIDATES, fuse
from processing.algorithms.interface import Choices
from processing.algorithms.recipes import BLEND, BY_HISTORY, Recipe
from processing.training import comparison, evaluation
from processing.training.comparison import K, ndcg
from processing.training.evaluation import Holdout

MIN_USERS = 20  # with fewer the choice would be chance
_FEW = (1, 3)  # items at most
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
        return Found(recipes.complete(Recipe(budget.algorithms[0])), [], n_users)
    tried = _Tried(held)
    _study(budget, tried)
    best = tried.best_of_each()
    if len(best) > 1:
        tried.blends(best[:3])
        tried.by_history(best)
    trials = tried.trials
    return Found(max(trials, key=lambda trial: trial.ndcg or 0.0).recipe, trials, n_users)


class _Tried:
    """Trials on one holdout; a recipe that was tried is not fitted again."""

    def __init__(self, held: Holdout) -> None:
        self._held, self._seen = held, held.train.interactions
        self._results: dict[str, tuple[Trial, DataFrame | None]] = {}
        self._tuned: dict[str, dict[str, Any]] = {}

    def tuned(self, name: str, jobs: int) -> dict[str, Any]:
        """The parameters that an algorithm chooses itself, chosen once."""
        tune = algorithm(name).tune
        if tune is not None and name not in self._tuned:
            self._tuned[name] = tune(self._seen, jobs)
        return self._tuned[name]

    @property
    def trials(self) -> list[Trial]:
        return [trial for trial, _ in self._results.values()]

    def reach(self, recipe: Recipe) -> float:
        """The nDCG of a recipe's lists, 0 where there is nothing to learn from."""
        recipe = recipes.complete(recipe)
        key = json.dumps(recipe.to_dict(), sort_keys=True)
        if key not in self._results:
            model = recipes.fit(self._held.train, recipe)
            top = None if model is None else model.top(self._held.users, self._seen, CANDIDATES).persist()
            reached = (
                ndcg(evaluation.listed_users({"tried": _first(top)}, self._held), "tried") if top is not None else None
            )
            self._results[key] = Trial(recipe, reached), top
            self._release(recipe.algorithm)
        return self._results[key][0].ndcg or 0.0

    def _release(self, algorithm: str) -> None:
        """Of an algorithm only the lists of its best trial are needed again; those of others would fill the disk."""
        done = list(self._results.items())  # other threads add to it
        tried = [(key, *result) for key, result in done if result[0].recipe.algorithm == algorithm]
        best = max(tried, key=lambda one: one[1].ndcg or 0.0)[0]
        for key, _, top in tried:
            if top is not None and key != best:
                top.unpersist()

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
            tops[name] = fuse([(top, weight) for _, top, weight in used], K)
        users = evaluation.listed_users(tops, self._held)
        for name, recipe in recipes.items():
            self._results[name] = Trial(recipe, ndcg(users, name)), tops[name]

    def by_history(self, alone: list[tuple[Trial, DataFrame]]) -> None:
        """Tries the best recipe so far for those who have met more than a few items, and for the others the one of
        `alone` that does best for them."""
        best, top = max(self._results.values(), key=lambda one: one[0].ndcg or 0.0)
        tops = {"best": top, **{trial.recipe.algorithm: of for trial, of in alone}}
        users = evaluation.listed_users({name: _first(of) for name, of in tops.items()}, self._held)
        met = {row["visitor_id"]: row["count"] for row in self._seen.groupBy("visitor_id").count().collect()}
        for most in _FEW:
            few = [user for user in users if met[user.visitor_id] <= most]
            if not MIN_USERS <= len(few) <= len(users) - MIN_USERS:
                continue
            trial, _ = max(alone, key=lambda one: ndcg(few, one[0].recipe.algorithm) or 0.0)
            name = trial.recipe.algorithm
            if (ndcg(few, name) or 0.0) > (ndcg(few, "best") or 0.0):
                both = {"members": [trial.recipe.to_dict(), best.recipe.to_dict()], "most": most}
                gained = sum(comparison.per_user(few, name, "ndcg")) - sum(comparison.per_user(few, "best", "ndcg"))
                reached = round((best.ndcg or 0.0) + gained / len(users), 6)
                self._results[f"few {most}"] = Trial(Recipe(BY_HISTORY, both), reached), None


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
        name = trial.suggest_categorical("algorithm", budget.algorithms)
        if algorithm(name).tune is not None:
            return tried.reach(Recipe(name, tried.tuned(name, budget.jobs)))
        return tried.reach(Recipe(name, _suggested(trial, name)))

    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=42))
    for name in budget.algorithms[: budget.trials]:
        known = algorithm(name)
        varied = {} if known.tune else {f"{name}.{key}": known.defaults[key] for key in known.space}
        study.enqueue_trial({"algorithm": name, **varied})
    study.optimize(objective, n_trials=budget.trials, timeout=budget.minutes * 60 or None, n_jobs=budget.jobs)


def _suggested(trial: Any, name: str) -> dict[str, Any]:
    """Parameters out of the algorithm's space, as the trial suggests them."""
    parameters = {}
    for key, values in algorithm(name).space.items():
        if isinstance(values, Choices):
            parameters[key] = trial.suggest_categorical(f"{name}.{key}", values.grid)
        else:
            parameters[key] = trial.suggest_float(f"{name}.{key}", values.low, values.high, log=values.low > 0)
    return parameters
