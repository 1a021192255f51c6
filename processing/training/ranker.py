"""The ranker of a batch: learnt from lists of before the recommender's holdout, judged on it, then learnt from all.

Two kinds of lists teach and judge: all candidates of a visitor, of whom some are met afterwards; and impressions as
they were shown, of whom some are clicked. In both the candidates are those of the recipe in force, fitted to what was
known before the lists: to the inner split of the train part for those that teach, to the split for those that judge.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ingest.event.event import to_millis
from processing.algorithms import recipes
from processing.algorithms.interface import Model
from processing.algorithms.recipes import Recipe
from processing.features import aggregates
from processing.runtime import code_version
from processing.runtime.job import Job
from processing.runtime.registry import RANKER
from processing.tables import event_times, iceberg, snapshots
from processing.tables.feature_schemas import POSITION_RATES, TRAINING_EXAMPLES
from processing.tables.schemas import EVENTS
from processing.training import candidates, comparison, evaluation, lambdamart, model_files, promotion_gate
from processing.training.candidates import FEATURES
from processing.training.comparison import POPULAR, K, Result, User
from processing.training.evaluation import Holdout
from processing.training.lambdamart import RECIPE, Lists
from processing.training.metrics import Estimate
from processing.training.model_files import InForce, Training
from processing.training.promotion_gate import Decision

FINAL, UNORDERED = "final", "not reordered"
LEAST = 20  # lists that a ranker is learnt from, and judged by
_COLUMNS = (*evaluation.COLUMNS, "list_id", "position")


@dataclass(frozen=True)
class Known:
    """The events that the batch's training read, what `features.occurrences` gives of them, the training examples;
    the longest pause of a session, and how many places a list has."""

    events: DataFrame
    seen: DataFrame
    examples: DataFrame
    gap: timedelta
    places: int


@dataclass(frozen=True)
class Moment:
    """What a recipe, fitted to what was known at a split, would have listed then: `tops` of the users who count."""

    held: Holdout
    tops: DataFrame
    described: DataFrame
    wanted: Lists
    shown: Lists

    @property
    def lists(self) -> Lists:
        return lambdamart.joined([self.wanted, self.shown])


@dataclass(frozen=True)
class Judged:
    """`final`: nDCG of the final lists over those not reordered, by users; `shown`: the same of impressions, by
    visitors, of so many `lists`."""

    final: Estimate
    shown: Estimate
    users: int
    lists: int


@dataclass(frozen=True)
class Learnt:
    """`trees` are those of `lists`, all that there are; `judged` are trees of lists before the holdout, whose order
    `users` got."""

    held: Holdout
    users: list[User]
    judged: Judged
    decision: Decision
    lists: Lists
    trees: bytes


def learn(this: Job, training: Training, decided: InForce) -> Learnt | None:
    """None where the lists are popular ones, or too few to learn from."""
    if decided.recipe is None or training.split_at is None:
        return None
    split, data = event_times.from_millis(training.split_at), _known(this, training)
    url = this.url(f"{model_files.folder(this.settings.hdfs.root, this.cut)}/holdout")
    fitted = decided.recipe == training.recipe and training.holdout
    after = at_split(data, decided.recipe, split, recipes.load(this.spark, training.recipe, url) if fitted else None)
    before = at_inner_split(data, decided.recipe, split) if after is not None else None
    if before is None or after is None:
        return None
    users, judged = judge(after, lambdamart.fit(before.lists, RECIPE))
    taken_back = RECIPE.to_dict() in this.registry(RANKER).taken_back(this.batch)
    lists = lambdamart.joined([before.lists, after.lists])
    return Learnt(after.held, users, judged, decide(judged, taken_back), lists, lambdamart.fit(lists, RECIPE))


def _known(this: Job, training: Training) -> Known:
    """Reads the snapshot that the recommender learnt from."""
    events = snapshots.read(this.spark, EVENTS, training.snapshots[EVENTS.name], this.batch)
    recent, _ = event_times.lately(events, this.settings.processing.feature_days, this.batch)
    recent = recent.select(*_COLUMNS).persist()
    seen = aggregates.occurrences(recent, this.read_batch(POSITION_RATES)).persist()
    iceberg.create(this.spark, TRAINING_EXAMPLES)
    places = this.settings.processing.recommendations_per_visitor
    return Known(recent, seen, this.read(TRAINING_EXAMPLES), this.gap, places)


def at_inner_split(data: Known, recipe: Recipe, split: datetime) -> Moment | None:
    """The moment by which four fifths of what is before `split` had happened, and what came until `split`."""
    events, examples = (rows.filter(F.col("occurred_at") < F.lit(split)) for rows in (data.events, data.examples))
    inner = evaluation.split_at(events)
    return None if inner is None else at_split(replace(data, events=events, examples=examples), recipe, inner)


def at_split(data: Known, recipe: Recipe, split: datetime, model: Model | None = None) -> Moment | None:
    """The moment `split`, and what came after it. `model`: the recipe's of then, where it is fitted already. None where
    there are fewer than LEAST lists to learn from."""
    events, examples = data.events, data.examples.filter(F.col("occurred_at") >= F.lit(split))
    held = evaluation.hold_out(events, split, data.gap)
    if held.users.count() < LEAST and examples.limit(LEAST).count() < LEAST:
        return None
    model = model or recipes.fit(held.train, recipe)
    if model is None:
        return None
    visitors = held.users.select("visitor_id").unionByName(_lowest(examples.select("visitor_id"))).distinct()
    # Their plans are cut off: Spark would optimise them again at each use.
    top = model.top(visitors, held.train.interactions, candidates.DEPTH * data.places).checkpoint()
    described = candidates.described(top, data.seen, to_millis(split)).checkpoint()
    taught = held.users.join(_lowest(held.users), on="visitor_id", how="left_semi")
    found = Moment(
        held,
        top.join(held.users.select("visitor_id"), on="visitor_id", how="left_semi"),
        described.join(held.users.select("visitor_id"), on="visitor_id", how="left_semi"),
        lambdamart.collect(candidates.wanted(described, taught), FEATURES),
        lambdamart.collect(candidates.shown(described, examples), FEATURES),
    )
    return found if len(found.lists) >= LEAST else None


def _lowest(rows: DataFrame) -> DataFrame:
    """The visitors of the lowest hash, as many as a ranker learns from."""
    visitors = rows.select("visitor_id").distinct().orderBy(F.xxhash64("visitor_id"), "visitor_id")
    return visitors.limit(lambdamart.MAX_LISTS)


def judge(moment: Moment, trees: bytes) -> tuple[list[User], Judged]:
    """The users who count, with their lists UNORDERED and FINAL, and what the new order is worth."""
    ordered = lambdamart.reorder(moment.described, trees, FEATURES, K)
    unordered = moment.tops.filter(F.col("rank") < K)
    users = evaluation.listed_users({UNORDERED: unordered, FINAL: ordered}, moment.held)
    shown = lambdamart.gain(moment.shown, lambdamart.score(trees, moment.shown.features, moment.shown.ranks), K)
    return users, Judged(comparison.difference(users, FINAL, UNORDERED), shown, len(users), len(moment.shown))


def decide(judged: Judged, taken_back: bool) -> Decision:
    return Decision(
        (
            promotion_gate.ordered(judged.final, judged.shown, judged.users, judged.lists),
            promotion_gate.not_taken_back(taken_back),
        )
    )


def results(learnt: Learnt) -> list[Result]:
    """The numbers of the lists in the new order."""
    cold = evaluation.cold_users([FINAL, POPULAR], learnt.held)
    shares, items = evaluation.shares(learnt.held, [*learnt.users, *cold])
    found = comparison.compare(learnt.users, [FINAL, POPULAR], shares, items, cold)
    return [result for result in found if result.contestant == FINAL]


def record(this: Job, learnt: Learnt, orders: InForce) -> None:
    """MLflow's run of this batch, and its version of the ranker, with the gate's decision."""
    registry, judged, name = this.registry(RANKER), learnt.judged, version(this)
    run_id = registry.run(name, model_files.run_tags(this.cut, RECIPE))
    numbers: dict[str, float | None] = {"users": judged.users, "lists": judged.lists, "learnt_lists": len(learnt.lists)}
    for what, estimate in {"ndcg_over_not_reordered": judged.final, "shown_over_not_reordered": judged.shown}.items():
        numbers |= {what: estimate.mean, f"{what}_low": estimate.low, f"{what}_high": estimate.high}
    documents = {
        "gate.json": learnt.decision.to_dict(),
        "importances.json": lambdamart.importances(learnt.trees, FEATURES),
    }
    tags = {"code": code_version.of(this.settings), "orders": orders.version}
    parameters = {"algorithm": RECIPE.algorithm, **RECIPE.parameters}
    registry.log(run_id, parameters=parameters, metrics=numbers, documents=documents, tags=tags)
    registry.finish(run_id)
    facts = {"recipe": RECIPE.to_dict(), "snapshots": {}, "orders": orders.version}
    made = registry.register(run_id, name, this.batch, this.url(trees_file(this)), facts)
    registry.decided(made, learnt.decision.to_dict())


def settle(this: Job, learnt: Learnt | None) -> InForce:
    """Writes the trees first, then the decision: whether the batch's lists are in their order."""
    decision = Decision(()) if learnt is None else learnt.decision
    promoted = learnt is not None and decision.promoted
    if learnt is not None:
        this.fs.write_atomically(trees_file(this), learnt.trees, overwrite=True)
    name = version(this) if promoted else f"no-ranker-{this.cut.name}"
    checks = [asdict(one) for one in decision.criteria]
    settled = InForce(name, RECIPE if promoted else None, FINAL, promoted, checks)
    model_files.decide(this.fs, this.settings.hdfs.root, this.cut, settled, RANKER)
    return settled


def trees(this: Job) -> tuple[str, bytes] | None:
    """The version of the ranker in force and its trees; None where the batch's lists are not reordered. Raises
    MissingModel before `train_ranker` has decided."""
    decided = model_files.in_force(this.fs, this.settings.hdfs.root, this.cut, RANKER, "train_ranker")
    return (decided.version, bytes(this.fs.read(trees_file(this)))) if decided.recipe else None


def version(this: Job) -> str:
    return f"ranker-{RECIPE.algorithm}-{this.cut.name}"


def trees_file(this: Job) -> str:
    return f"{model_files.folder(this.settings.hdfs.root, this.cut, RANKER)}/trees.ubj"
