"""Models of a batch's clicks and conversions: searched, judged beside the champion, decided, fitted, registered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from processing.algorithms.recipes import Recipe
from processing.runtime import code_version
from processing.runtime.job import Job
from processing.runtime.registry import Registry, Version
from processing.training import drift, model_files, outcomes, plots, promotion_gate
from processing.training.classifiers import Classifier
from processing.training.metrics import Estimate
from processing.training.model_files import Champion, InForce
from processing.training.outcomes import BASELINE, EVERYBODY, Judged, Scored
from processing.training.promotion_gate import Decision

CHALLENGER, CHAMPION = "challenger", "champion"
Facts = dict[str, Any]  # what the registry keeps of a version
_UNKNOWN = Estimate(None, None, None)


def learn(this: Job, rows: DataFrame, outcome: str, facts: Facts) -> InForce:
    """Searches, judges, decides; then whoever is in force learns from all rows."""
    root, registry = this.settings.hdfs.root, this.registry(outcome)
    champion = model_files.champion_of(
        this.fs, root, this.cut, lambda: model_files.champion(registry.champion(), this.batch), outcome
    )
    train, held = outcomes.parts(rows, outcomes.split_at(rows) or 0)
    if not (outcomes.enough(train, outcome) and outcomes.enough(held, outcome)):
        return _settled(this, outcome, None, InForce(f"no-{outcome}-{this.cut.name}", None, BASELINE, False, []))
    recipe = outcomes.choose(train, outcome, this.settings.processing.click_algorithms)
    contestants = {CHALLENGER: outcomes.fit(train, outcome, recipe)}
    if champion is not None and champion.recipe != recipe:
        contestants[CHAMPION] = outcomes.fit(train, outcome, champion.recipe)
    scored = outcomes.score(contestants, train, held, outcome)
    judged = scored.judged()
    taken_back = recipe.to_dict() in registry.taken_back(this.batch)
    asked = registry.asked(this.day, this.batch)
    decision = decide(this, scored, judged, recipe, champion, rows, taken_back, asked)
    version = f"{outcome}-{recipe.algorithm}-{this.cut.name}"
    checked = [asdict(one) for one in decision.criteria]
    if decision.promoted:
        chosen = InForce(version, recipe, CHALLENGER, True, checked)
    elif champion is not None:
        chosen = InForce(f"{champion.version}-on-{this.cut.name}", champion.recipe, CHAMPION, False, checked)
    else:
        chosen = InForce(f"no-{outcome}-{this.cut.name}", None, BASELINE, False, checked)
    _settled(this, outcome, outcomes.fit(rows, outcome, chosen.recipe) if chosen.recipe else None, chosen)
    facts = {**facts, "recipe": recipe.to_dict()}
    source = this.url(f"{model_files.folder(root, this.cut, outcome)}/{'final' if decision.promoted else 'refused'}")
    if not decision.promoted:
        contestants[CHALLENGER].save(source)
    record(this, registry, version, source, facts, judged, decision, contestants[CHALLENGER].importances)
    return chosen


def decide(
    this: Job,
    scored: Scored,
    judged: Sequence[Judged],
    recipe: Recipe,
    champion: Champion | None,
    rows: DataFrame,
    taken_back: bool,
    asked: str | None,
) -> Decision:
    """Asks the gate. The champion's recipe on newer data is compared with the baseline alone; another that
    was `taken_back` stays out of force."""
    of_all = next((one for one in judged if (one.contestant, one.segment) == (CHALLENGER, EVERYBODY)), None)
    saved, said = of_all.saved if of_all else _UNKNOWN, scored.said[CHALLENGER]
    over_champion = scored.saved(CHALLENGER, CHAMPION) if CHAMPION in scored.said else _UNKNOWN
    same = champion is not None and champion.recipe == recipe
    name, before = (champion.version, champion.distributions) if champion else (None, {})
    window = drift.compared(rows, F.col("time"), this.settings.processing.drift_days, outcomes.values, before)
    return Decision(
        (
            promotion_gate.informed(saved, BASELINE),
            promotion_gate.better(over_champion, saved, name, same, "log loss saved", BASELINE, asked),
            promotion_gate.not_taken_back(taken_back and not same),
            promotion_gate.calibrated(*(of_all.estimates[name] if of_all else _UNKNOWN for name in ("shift", "slope"))),
            promotion_gate.varied(float(said.min()), float(said.max())),
            promotion_gate.drift(before, window, this.settings.processing.drift_threshold),
        ),
        this.day if CHAMPION in scored.said and asked is None else None,
    )


def _settled(this: Job, outcome: str, model: Classifier | None, chosen: InForce) -> InForce:
    """The model first, then what says that there is one."""
    root = this.settings.hdfs.root
    if model is not None:
        model.save(this.url(f"{model_files.folder(root, this.cut, outcome)}/final"))
    model_files.decide(this.fs, root, this.cut, chosen, outcome)
    return chosen


def record(
    this: Job,
    registry: Registry,
    name: str,
    source: str,
    facts: Facts,
    judged: Sequence[Judged],
    decision: Decision,
    importances: Mapping[str, float],
) -> None:
    """MLflow's run of this batch and recipe, and its version of the model."""
    run_id = registry.run(name, model_files.run_tags(this.cut, Recipe.from_dict(facts["recipe"])))
    of_all = [one for one in judged if one.segment == EVERYBODY]
    registry.log(
        run_id,
        parameters={"algorithm": facts["recipe"]["algorithm"], **facts["recipe"]["parameters"]},
        metrics=_numbers(judged),
        documents={
            "gate.json": decision.to_dict(),
            "importances.json": dict(importances),
            "reliability.json": {one.contestant: [asdict(bin_) for bin_ in one.reliability] for one in of_all},
        },
        figures={"reliability.png": plots.reliability(of_all)},
        tags={
            "code": code_version.of(this.settings),
            **{f"snapshot.{table}": str(snapshot) for table, snapshot in facts["snapshots"].items()},
        },
    )
    registry.finish(run_id)
    version: Version = registry.register(run_id, name, this.batch, source, facts)
    registry.decided(version, decision.to_dict())


def _numbers(judged: Sequence[Judged]) -> dict[str, float | None]:
    numbers: dict[str, float | None] = {}
    for one in judged:
        place = one.contestant if one.segment == EVERYBODY else f"{one.contestant}/{one.segment.replace(': ', '_')}"
        for metric, estimate in {**one.estimates, "log_loss_saved": one.saved}.items():
            base = f"{place}/{metric}"
            numbers |= {base: estimate.mean, f"{base}_low": estimate.low, f"{base}_high": estimate.high}
        numbers |= {f"{place}/examples": one.examples, f"{place}/positives": one.positives}
    return numbers
