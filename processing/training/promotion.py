"""Whether a batch's challenger becomes champion: contestants compared, decided, written and registered."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from processing.algorithms import popular, recipes
from processing.algorithms.interface import MAX_SEEN, Model
from processing.algorithms.recipes import Recipe
from processing.runtime.job import Job
from processing.runtime.registry import Registry
from processing.tables import event_times, snapshots
from processing.tables.feature_schemas import INTERACTIONS
from processing.tables.model_schemas import EVALUATIONS
from processing.tables.schemas import EVENTS
from processing.training import comparison, drift, evaluation, lists, model_files, plots, promotion_gate
from processing.training.comparison import POPULAR, K, Result, User
from processing.training.model_files import Champion, InForce, Training
from processing.training.promotion_gate import Decision, Smoke
from storage.batches.cuts import Cut

_ODD = r"[^\w. :-]"  # characters that MLflow refuses in names
CHALLENGER, CHAMPION, BASELINE = "challenger", "champion", "baseline"
_SAMPLE = 100  # visitors whose lists are looked at


def compare(this: Job, training: Training, champion: Champion | None) -> tuple[list[User], list[Result]]:
    """The users who count and the results of all contestants; without a holdout model there is nobody."""
    contestants = [CHALLENGER, *([CHAMPION] if champion and champion.recipe != training.recipe else []), POPULAR]
    if training.split_at is None or not training.holdout:
        return [], comparison.compare([], contestants, {}, 0)
    events, _ = evaluation.known(
        snapshots.read(this.spark, EVENTS, training.snapshots[EVENTS.name], this.batch),
        this.settings.processing.feature_days,
        this.batch,
    )
    held = evaluation.hold_out(events, event_times.from_millis(training.split_at), this.gap)
    url = this.url(f"{model_files.folder(this.settings.hdfs.root, this.cut)}/holdout")
    models = {CHALLENGER: recipes.load(this.spark, training.recipe, url)}
    if CHAMPION in contestants and champion is not None:
        refitted = recipes.fit(held.train, champion.recipe)
        models |= {CHAMPION: refitted} if refitted is not None else {}
    seen = held.train.interactions
    tops = {name: models[name].top(held.users, seen, K) if name in models else None for name in contestants[:-1]}
    users = evaluation.listed_users(tops, held)
    cold = evaluation.cold_users(contestants, held)
    return users, comparison.compare(users, contestants, *evaluation.shares(held, [*users, *cold]), cold)


def decide(
    this: Job,
    training: Training,
    champion: Champion | None,
    users: list[User],
    results: list[Result],
    taken_back: bool,
    asked: str | None,
) -> Decision:
    """Asks the gate. The champion's recipe on newer data is compared with nothing but popularity; another that was
    `taken_back` stays out of force. `asked`: the version for which this was asked today already."""
    same = champion is not None and champion.recipe == training.recipe
    over_popular = next(r.over_baseline for r in results if (r.contestant, r.segment) == (CHALLENGER, "all"))
    rival = CHAMPION if champion is not None and not same else POPULAR
    difference = comparison.difference(users, CHALLENGER, rival)
    interactions = snapshots.read(this.spark, INTERACTIONS, training.snapshots[INTERACTIONS.name], this.batch)
    interactions = interactions.filter(interactions["batch"] == this.batch).persist()
    url = this.url(f"{model_files.folder(this.settings.hdfs.root, this.cut)}/final")
    final = recipes.load(this.spark, training.recipe, url) if training.final else None
    before = champion.distributions if champion is not None else {}
    days = this.settings.processing.drift_days
    window = drift.compared(interactions, F.unix_millis("last_at"), days, drift.of_interactions, before)
    tried = try_out(final, interactions, this.settings.processing.recommendations_per_visitor)
    return Decision(
        (
            promotion_gate.better(difference, over_popular, champion.version if champion else None, same, asked=asked),
            promotion_gate.not_taken_back(taken_back and not same),
            promotion_gate.smoke(tried),
            promotion_gate.drift(before, window, this.settings.processing.drift_threshold),
        ),
        this.day if rival == CHAMPION and asked is None else None,
    )


def try_out(model: Model | None, interactions: DataFrame, n: int) -> Smoke:
    """Lists of `n` for the visitors of the lowest hash, filled up with popular items as they are shown."""
    if model is None:
        return Smoke(0, 0, 0, 0, 0, 0)
    visitors = interactions.select("visitor_id").distinct()
    some = visitors.orderBy(F.xxhash64("visitor_id"), "visitor_id").limit(_SAMPLE).persist()
    met = interactions.select("visitor_id", "item_id", F.lit(True).alias("met"))
    items = interactions.groupBy("item_id").agg(F.round(F.sum("weight"), 6).alias("popularity"))
    ranked = popular.most(items, n + MAX_SEEN)
    shown = lists.for_visitors(some, model.top(some, interactions, n).persist(), ranked, interactions, n)
    score = F.col("score")
    odd = score.isNull() | F.isnan("score") | (F.abs("score") == float("inf"))
    found = (
        shown.join(met, on=["visitor_id", "item_id"], how="left")
        .agg(
            F.count_distinct("visitor_id"),
            F.count_distinct(F.when(F.col("source") == "learned", F.col("visitor_id"))),
            F.count_if(F.col("met").isNotNull()),
            F.count_if(odd),
            F.count("*") - F.count_distinct("visitor_id", "item_id"),
        )
        .collect()[0]
    )
    return Smoke(some.count(), *found)


def in_force(
    cut: Cut, training: Training, champion: Champion | None, decision: Decision, results: Sequence[Result]
) -> InForce:
    """Whose recipe makes this batch's lists: the champion's only while it is not worse than popularity beyond noise."""
    checked = [asdict(one) for one in decision.criteria]
    if decision.promoted:
        return InForce(training.version, training.recipe, CHALLENGER, True, checked)
    if champion is None:
        return InForce(f"{POPULAR}-{cut.name}", None, POPULAR, False, checked)
    role = CHALLENGER if champion.recipe == training.recipe else CHAMPION
    if next(r.over_baseline for r in results if (r.contestant, r.segment) == (role, "all")).is_negative:
        return InForce(model_files.popular_for(champion.version, cut), None, POPULAR, False, checked)
    return InForce(model_files.on_batch(champion.version, cut), champion.recipe, role, False, checked)


def write(this: Job, training: Training, champion: Champion | None, results: list[Result]) -> None:
    """The batch's rows of evaluations."""
    who: dict[str, tuple[str | None, Recipe | None]] = {
        CHALLENGER: (training.version, training.recipe),
        CHAMPION: (champion.version, champion.recipe) if champion else (None, None),
        POPULAR: (None, Recipe(POPULAR)),
    }
    rows = []
    for result in results:
        version, recipe = who[result.contestant]
        role = BASELINE if result.contestant == POPULAR else result.contestant
        algorithm = recipe.algorithm if recipe else None
        rows.append(comparison.row(result, role=role, algorithm=algorithm, model_version=version, **_split(training)))
    this.overwrite(EVALUATIONS, _frame(this, rows))


def write_final(this: Job, training: Training, decided: InForce, final: str, results: Sequence[Result] | None) -> None:
    """The batch's rows of evaluations with those of the role `final`: of the lists that visitors see. `results`: where
    they are in another order than that of whoever is in force."""
    others = this.settle(this.read_batch(EVALUATIONS).filter(F.col("role") != final).drop("batch"))
    if results is None:
        role = BASELINE if decided.role == POPULAR else decided.role
        rows = others.filter(F.col("role") == role).withColumn("role", F.lit(final))
    else:
        algorithm = decided.recipe.algorithm if decided.recipe else POPULAR
        named = {"role": final, "algorithm": algorithm, "model_version": decided.version, **_split(training)}
        rows = _frame(this, [comparison.row(result, **named) for result in results])
    this.overwrite(EVALUATIONS, others.unionByName(rows))


def _split(training: Training) -> dict[str, Any]:
    return {"split_at": None if training.split_at is None else event_times.from_millis(training.split_at)}


def _frame(this: Job, rows: Sequence[dict[str, Any]]) -> DataFrame:
    types = {name: type_ for name, type_ in EVALUATIONS.columns.items() if name != "batch"}
    schema = ", ".join(f"{name} {type_}" for name, type_ in types.items())
    return this.spark.createDataFrame([[row.get(name) for name in types] for row in rows], schema)


def record(this: Job, registry: Registry, training: Training, results: list[Result], decision: Decision) -> None:
    """MLflow's run of the training gets the numbers, pictures and the gate's answer; the version its decision."""
    run_id = registry.run(training.version, model_files.run_tags(this.cut, training.recipe))
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
