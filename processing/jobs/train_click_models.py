"""Learns from impressions which of them are clicked, and which lead into the cart: models that order candidates.

From the training examples up to the batch, for each outcome (clicked, converted): the algorithm of
processing.click_algorithms that loses least on the last fifth of the train part, with the parameters of its inner
folds, is the challenger. Both it and the registry's champion, if that has another recipe, learn from the train part,
the first four fifths of time, and are judged on the rest: AUC, PR-AUC, log loss, Brier score, calibration error with
95 % bootstrap intervals, of all, new and returning visitors, and by device.

The challenger is promoted when it loses less than what is known without a model (the click rate of the place in its
list, or the base rate) and less than the champion, both beyond noise (paired bootstrap over visitors), when its
probabilities are calibrated and differ, and when the features have not drifted (processing.drift_threshold). Otherwise
the champion's recipe stays. Whoever is in force learns from all examples, and orders recommend_items' candidates. With
fewer than 20 examples of a label in each fold there is no model.

MLflow gets models `clicked` and `converted`: recipe, metrics, reliability.png, importances, snapshot, gate.json.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from pyspark.sql import DataFrame

from processing import code_version, job, plots, snapshots
from processing.job import Job
from processing.metrics import Estimate
from processing.registry import Registry, Version
from processing.tables import TRAINING_EXAMPLES
from processing.training import checks, gate, outcomes, store
from processing.training.classifiers import Classifier
from processing.training.gate import Decision, Histogram
from processing.training.outcomes import BASELINE, EVERYBODY, OUTCOMES, Judged, Scored
from processing.training.recipe import Recipe
from processing.training.store import Champion, InForce

CHALLENGER, CHAMPION = "challenger", "champion"
Facts = dict[str, Any]  # what the registry keeps of a version
_UNKNOWN = Estimate(None, None, None)


def work(this: Job) -> dict[str, Any]:
    """Each outcome on its own."""
    snapshot = snapshots.newest(this.spark, TRAINING_EXAMPLES)
    snapshots.keep(this.spark, TRAINING_EXAMPLES, this.batch, snapshot)
    rows = outcomes.examples(snapshots.read(this.spark, TRAINING_EXAMPLES, snapshot, this.batch)).persist()
    facts: Facts = {
        "snapshots": {TRAINING_EXAMPLES.name: snapshot},
        "examples": rows.count(),
        "distributions": {name: asdict(one) for name, one in distributions(rows).items()},
    }
    found = {outcome: learn(this, rows, outcome, facts) for outcome in OUTCOMES}
    return {"examples": facts["examples"], **{f"{outcome}_model": one.version for outcome, one in found.items()}}


def learn(this: Job, rows: DataFrame, outcome: str, facts: Facts) -> InForce:
    """Searches, judges, decides; then whoever is in force learns from all rows."""
    root, registry = this.settings.hdfs.root, this.registry(outcome)
    champion = store.champion_of(
        this.fs, root, this.cut, lambda: store.champion(registry.champion(), this.batch), outcome
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
    decision = decide(this, scored, judged, recipe, champion, rows)
    version = f"{outcome}-{recipe.algorithm}-{this.cut.name}"
    checked = [asdict(check) for check in decision.checks]
    if decision.promoted:
        chosen = InForce(version, recipe, CHALLENGER, True, checked)
    elif champion is not None:
        chosen = InForce(f"{champion.version}-on-{this.cut.name}", champion.recipe, CHAMPION, False, checked)
    else:
        chosen = InForce(f"no-{outcome}-{this.cut.name}", None, BASELINE, False, checked)
    _settled(this, outcome, outcomes.fit(rows, outcome, chosen.recipe) if chosen.recipe else None, chosen)
    facts = {**facts, "recipe": recipe.to_dict()}
    record(this, registry, version, facts, judged, decision, contestants[CHALLENGER].importances)
    return chosen


def decide(
    this: Job, scored: Scored, judged: Sequence[Judged], recipe: Recipe, champion: Champion | None, rows: DataFrame
) -> Decision:
    """Asks the gate. The champion's recipe on newer data is compared with the baseline alone."""
    of_all = next((one for one in judged if (one.contestant, one.segment) == (CHALLENGER, EVERYBODY)), None)
    saved, said = of_all.saved if of_all else _UNKNOWN, scored.said[CHALLENGER]
    over_champion = scored.saved(CHALLENGER, CHAMPION) if CHAMPION in scored.said else _UNKNOWN
    same = champion is not None and champion.recipe == recipe
    name, before = (champion.version, champion.distributions) if champion else (None, {})
    now = distributions(rows, before) if before else {}
    return Decision(
        (
            gate.informed(saved, BASELINE),
            gate.better(over_champion, saved, name, same, "log loss saved", BASELINE),
            gate.calibrated(of_all.estimates["ece"].mean if of_all else None),
            gate.varied(float(said.min()), float(said.max())),
            gate.drift(before, now, this.settings.processing.drift_threshold),
        )
    )


def distributions(rows: DataFrame, like: Mapping[str, Histogram] | None = None) -> dict[str, Histogram]:
    """What the models learn from, for the gate's question of drift."""
    return checks.histograms(checks.relative(outcomes.values(rows)), like)


def _settled(this: Job, outcome: str, model: Classifier | None, chosen: InForce) -> InForce:
    """The model first, then what says that there is one."""
    root = this.settings.hdfs.root
    if model is not None:
        model.save(this.url(f"{store.folder(root, this.cut, outcome)}/final"))
    store.decide(this.fs, root, this.cut, chosen, outcome)
    return chosen


def record(
    this: Job,
    registry: Registry,
    name: str,
    facts: Facts,
    judged: Sequence[Judged],
    decision: Decision,
    importances: Mapping[str, float],
) -> None:
    """MLflow's run of this batch and recipe, and its version of the model."""
    run_id = registry.run(name, store.run_tags(this.cut, Recipe.from_dict(facts["recipe"])))
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
    source = this.url(f"{store.folder(this.settings.hdfs.root, this.cut, registry.model)}/final")
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


def main(argv: Sequence[str] | None = None) -> int:
    return job.run("train_click_models", __doc__ or "", work, argv)


if __name__ == "__main__":
    sys.exit(main())
