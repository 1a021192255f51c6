"""Models on HDFS: what training leaves for evaluation and recommendation, and what evaluation decided.

<root>/models/recommender/batch=<number>/{holdout,final}/   the challenger's models, see processing/algorithms
<root>/models/recommender/batch=<number>/training.json      written last: without it there is no model
<root>/models/<model>/batch=<number>/champion.json          who was champion when the batch was first evaluated
<root>/models/<model>/batch=<number>/decision.json          the gate's decision, and whose recipe is in force
<root>/models/{clicked,converted}/batch=<number>/final/     the model in force, see classifiers.py
<root>/models/{clicked,converted}/batch=<number>/refused/   the challenger, of the train part, if another is in force
<root>/models/ranker/batch=<number>/trees.ubj               XGBoost's, see lambdamart.py
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from processing.algorithms.recipes import Recipe
from processing.errors import MissingModel
from processing.runtime.registry import RECOMMENDER, Version
from processing.training.promotion_gate import Histogram
from storage.batches.cuts import Cut
from storage.hdfs import Hdfs


@dataclass(frozen=True)
class Training:
    """Record of a batch's training. `holdout` and `final` say which models were written: without data there is none.

    `split_at` is in milliseconds since 1970, None without interest events. `interactions` counts what the final model
    learnt from, `distributions` are theirs; `snapshots`: table -> the Iceberg snapshot that was read.
    """

    version: str
    recipe: Recipe
    split_at: int | None
    interactions: int
    holdout: bool
    final: bool
    trials: list[dict[str, Any]] = field(default_factory=list)
    validated_on: int = 0
    distributions: Mapping[str, Histogram] = field(default_factory=dict)
    snapshots: Mapping[str, int] = field(default_factory=dict)

    def to_json(self) -> bytes:
        return json.dumps(asdict(self), indent=1).encode()

    @classmethod
    def from_json(cls, data: bytes) -> Training:
        document = json.loads(data)
        recipe = Recipe.from_dict(document.pop("recipe"))
        return cls(recipe=recipe, distributions=histograms(document.pop("distributions")), **document)


@dataclass(frozen=True)
class Champion:
    """A promoted version of the registry: its number there, its name, its recipe, and what it learnt from."""

    number: int
    version: str
    batch: int
    recipe: Recipe
    distributions: Mapping[str, Histogram]

    @classmethod
    def from_dict(cls, document: dict[str, Any]) -> Champion:
        recipe = Recipe.from_dict(document["recipe"])
        return cls(**document | {"recipe": recipe, "distributions": histograms(document["distributions"])})


@dataclass(frozen=True)
class InForce:
    """Whose lists a batch gets: `recipe` None, where nothing is known but popularity, or nothing of what an impression
    leads to. `role` is that of its rows in evaluations."""

    version: str
    recipe: Recipe | None
    role: str
    promoted: bool
    checks: list[dict[str, Any]]

    def is_of(self, champion: str, cut: Cut) -> bool:
        """Whether the lists of the batch are this version's, or its recipe's on new data, or popular ones instead."""
        return self.version in (champion, on_batch(champion, cut), popular_for(champion, cut))


def on_batch(version: str, cut: Cut) -> str:
    """The name of a version's recipe, fitted to the data of a later batch."""
    return f"{version}-on-{cut.name}"


def popular_for(version: str, cut: Cut) -> str:
    """The name of popular lists in place of a champion that popularity beats."""
    return f"popular-for-{on_batch(version, cut)}"


def registered(training: Training) -> dict[str, Any]:
    """Facts that the registry stores of a model, for later batches."""
    document = json.loads(training.to_json())
    return {name: document[name] for name in ("recipe", "distributions", "snapshots", "interactions")}


def champion(version: Version | None, batch: int) -> Champion | None:
    """The registry's champion for a batch to meet; None before the first, and where it is of a later batch, or of this
    one, which is being evaluated again."""
    if version is None or version.batch >= batch:
        return None
    facts = {name: version.facts[name] for name in ("recipe", "distributions")}
    return Champion.from_dict({"number": version.number, "version": version.name, "batch": version.batch, **facts})


def run_tags(cut: Cut, recipe: Recipe) -> dict[str, str]:
    """Tags that identify MLflow's run of a training: its batch and its recipe."""
    document = json.dumps(recipe.to_dict(), sort_keys=True)
    return {"batch": cut.name, "recipe_hash": hashlib.sha256(document.encode()).hexdigest()[:16]}


def histograms(document: Mapping[str, Any]) -> dict[str, Histogram]:
    return {
        name: Histogram(tuple(one["edges"]), tuple(one["counts"]), one.get("visitors"))
        for name, one in document.items()
    }


def folder(root: str, cut: Cut, model: str = RECOMMENDER) -> str:
    return f"{root}/models/{model}/batch={cut.number}"


def publish(fs: Hdfs, root: str, cut: Cut, training: Training, write_models: Callable[[], None]) -> None:
    """Takes the old record away, has the models written, records the new: a crash leaves no record of half a model."""
    path = f"{folder(root, cut)}/training.json"
    fs.delete(path)
    write_models()
    fs.write_atomically(path, training.to_json(), overwrite=True)


def read(fs: Hdfs, root: str, cut: Cut) -> Training:
    """Raises MissingModel when the batch was never trained."""
    return Training.from_json(_read(fs, root, cut, "training.json", "train_recommender"))


def champion_of(
    fs: Hdfs, root: str, cut: Cut, ask: Callable[[], Champion | None], model: str = RECOMMENDER
) -> Champion | None:
    """The champion that the batch's challenger is compared with: `ask`ed once and recorded, so that a rerun compares
    with the same one."""
    path = f"{folder(root, cut, model)}/champion.json"
    try:
        found = json.loads(fs.read(path))
        return None if found is None else Champion.from_dict(found)
    except FileNotFoundError:
        champion = ask()
        fs.write_atomically(path, json.dumps(None if champion is None else asdict(champion)).encode(), overwrite=True)
        return champion


def decide(fs: Hdfs, root: str, cut: Cut, decided: InForce, model: str = RECOMMENDER) -> None:
    """Records the promotion gate's decision."""
    document = json.dumps(asdict(decided)).encode()
    fs.write_atomically(f"{folder(root, cut, model)}/decision.json", document, overwrite=True)


def in_force(fs: Hdfs, root: str, cut: Cut, model: str = RECOMMENDER, job: str = "evaluate_recommender") -> InForce:
    """Raises MissingModel when the batch was never evaluated, which `job` does."""
    document = json.loads(_read(fs, root, cut, "decision.json", job, model))
    recipe = document.pop("recipe")
    return InForce(recipe=None if recipe is None else Recipe.from_dict(recipe), **document)


def _read(fs: Hdfs, root: str, cut: Cut, name: str, job: str, model: str = RECOMMENDER) -> bytes:
    path = f"{folder(root, cut, model)}/{name}"
    try:
        return bytes(fs.read(path))
    except FileNotFoundError:
        raise MissingModel(cut.name, path, job) from None
