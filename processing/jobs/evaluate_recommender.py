"""Evaluates a batch's challenger on the untouched last fifth of time, and decides whether it becomes champion.

recall, nDCG, MAP and MRR at 10, with 95 % bootstrap intervals over users, coverage and novelty; of all users, of new
and returning ones and by type of device; of the challenger, of the champion and of popularity. The registry's champion
is of an earlier batch and its model has seen this holdout: so its recipe is fitted anew to the train part. All rank,
for the same users, the items that each has not met before the split; what they met first afterwards is relevant.

The challenger is promoted when it is better than the champion beyond noise (paired bootstrap of nDCG@10; a first one
has nothing to beat, and the champion's own recipe on newer data need not beat itself), when its lists for 100 visitors
make sense, and when the data have not drifted (processing.drift_threshold). Otherwise the champion stays, and this
batch's lists are made by its recipe. Who was champion is kept with the batch: a rerun decides the same.

Writes a row per contestant and segment to evaluations; MLflow gets metrics, plots and gate.json.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from processing import features, job, plots, snapshots
from processing.job import Job
from processing.registry import Registry
from processing.tables import EVALUATIONS, EVENTS, INTERACTIONS
from processing.training import checks, comparison, evaluation, gate, recommenders, store
from processing.training.comparison import POPULAR, K, Result, User
from processing.training.gate import Decision
from processing.training.recipe import Recipe
from processing.training.store import Champion, InForce, Training

_ODD = r"[^\w. :-]"  # what MLflow takes in no name
CHALLENGER, CHAMPION, BASELINE = "challenger", "champion", "baseline"


def work(this: Job) -> dict[str, Any]:
    """Compares, decides, writes."""
    registry, root = this.registry(), this.settings.hdfs.root
    training = store.read(this.fs, root, this.cut)
    champion = store.champion_of(this.fs, root, this.cut, lambda: store.champion(registry.champion(), this.batch))
    users, results = compare(this, training, champion)
    decision = decide(this, training, champion, users, results)
    write(this, training, champion, results)
    chosen = in_force(this, training, champion, decision)
    store.decide(this.fs, root, this.cut, chosen)
    record(this, registry, training, results, decision)
    numbers = {result.contestant: result.estimates["ndcg"].mean for result in results if result.segment == "all"}
    return {
        "n_users": len(users),
        "ndcg_at_10": numbers[CHALLENGER],
        "baseline": numbers[POPULAR],
        "promoted": decision.promoted,
        "in_force": chosen.version,
    }


def compare(this: Job, training: Training, champion: Champion | None) -> tuple[list[User], list[Result]]:
    """The users who count and the results of all contestants; without a holdout model there is nobody."""
    contestants = [CHALLENGER, *([CHAMPION] if champion and champion.recipe != training.recipe else []), POPULAR]
    if training.split_at is None or not training.holdout:
        return [], comparison.compare([], contestants, {}, 0)
    events, _ = evaluation.known(
        snapshots.read(this.spark, EVENTS, training.snapshots[EVENTS.name], this.batch),
        this.settings.processing.feature_days,
    )
    held = evaluation.hold_out(events, features.from_millis(training.split_at), this.gap)
    url = this.url(f"{store.folder(this.settings.hdfs.root, this.cut)}/holdout")
    models = {CHALLENGER: recommenders.load(this.spark, training.recipe, url)}
    if CHAMPION in contestants and champion is not None:
        refitted = recommenders.fit(held.train, champion.recipe)
        models |= {CHAMPION: refitted} if refitted is not None else {}
    seen = held.train.interactions
    tops = {name: models[name].top(held.users, seen, K) if name in models else None for name in contestants[:-1]}
    users = evaluation.lists(tops, held)
    return users, comparison.compare(users, contestants, *evaluation.shares(held, users))


def decide(
    this: Job, training: Training, champion: Champion | None, users: list[User], results: list[Result]
) -> Decision:
    """Asks the gate. The champion's recipe on newer data is compared with nothing but popularity."""
    same = champion is not None and champion.recipe == training.recipe
    over_popular = next(r.over_baseline for r in results if (r.contestant, r.segment) == (CHALLENGER, "all"))
    rival = CHAMPION if champion is not None and not same else POPULAR
    difference = comparison.difference(users, CHALLENGER, rival)
    interactions = snapshots.read(this.spark, INTERACTIONS, training.snapshots[INTERACTIONS.name], this.batch)
    interactions = interactions.filter(interactions["batch"] == this.batch).persist()
    url = this.url(f"{store.folder(this.settings.hdfs.root, this.cut)}/final")
    final = recommenders.load(this.spark, training.recipe, url) if training.final else None
    before = champion.distributions if champion is not None else {}
    now = checks.distributions(interactions, before) if before else {}
    tried = checks.try_out(final, interactions, this.settings.processing.recommendations_per_visitor)
    return Decision(
        (
            gate.better(difference, over_popular, champion.version if champion else None, same),
            gate.smoke(tried),
            gate.drift(before, now, this.settings.processing.drift_threshold),
        )
    )


def in_force(this: Job, training: Training, champion: Champion | None, decision: Decision) -> InForce:
    """Whose recipe makes this batch's lists."""
    checked = [asdict(check) for check in decision.checks]
    if decision.promoted:
        return InForce(training.version, training.recipe, CHALLENGER, True, checked)
    if champion is None:
        return InForce(f"{POPULAR}-{this.cut.name}", None, POPULAR, False, checked)
    role = CHALLENGER if champion.recipe == training.recipe else CHAMPION
    return InForce(store.on_batch(champion.version, this.cut), champion.recipe, role, False, checked)


def write(this: Job, training: Training, champion: Champion | None, results: list[Result]) -> None:
    """The batch's rows of evaluations."""
    who: dict[str, tuple[str | None, Recipe | None]] = {
        CHALLENGER: (training.version, training.recipe),
        CHAMPION: (champion.version, champion.recipe) if champion else (None, None),
        POPULAR: (None, Recipe(POPULAR)),
    }
    split = None if training.split_at is None else features.from_millis(training.split_at)
    rows = []
    for result in results:
        version, recipe = who[result.contestant]
        role = BASELINE if result.contestant == POPULAR else result.contestant
        algorithm = recipe.algorithm if recipe else None
        rows.append(comparison.row(result, role=role, algorithm=algorithm, model_version=version, split_at=split))
    types = {name: type_ for name, type_ in EVALUATIONS.columns.items() if name != "batch"}
    schema = ", ".join(f"{name} {type_}" for name, type_ in types.items())
    this.overwrite(EVALUATIONS, this.spark.createDataFrame([[row.get(name) for name in types] for row in rows], schema))


def record(this: Job, registry: Registry, training: Training, results: list[Result], decision: Decision) -> None:
    """MLflow's run of the training gets the numbers, pictures and the gate's answer; the version its decision."""
    run_id = registry.run(training.version, store.run_tags(this.cut, training.recipe))
    numbers: dict[str, float | None] = {}
    for result in results:
        place = "" if result.segment == "all" else f"/{re.sub(_ODD, '_', result.segment)}"
        for name, estimate in {**result.estimates, "ndcg_over_popular": result.over_baseline}.items():
            base = f"{result.contestant}{place}/{name}"
            numbers |= {base: estimate.mean, f"{base}_low": estimate.low, f"{base}_high": estimate.high}
        numbers |= {
            f"{result.contestant}{place}/coverage": result.coverage,
            f"{result.contestant}{place}/novelty_bits": result.novelty_bits,
            f"{result.contestant}{place}/users": result.n_users,
        }
    figures = {"metrics.png": plots.metrics(results), "segments.png": plots.segments(results, CHALLENGER)}
    registry.log(run_id, metrics=numbers, documents={"gate.json": decision.to_dict()}, figures=figures)
    registry.finish(run_id)
    if training.final:
        registry.decided(registry.of_run(run_id), decision.to_dict())


def main(argv: Sequence[str] | None = None) -> int:
    return job.run("evaluate_recommender", __doc__ or "", work, argv)


if __name__ == "__main__":
    sys.exit(main())
