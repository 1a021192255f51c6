"""Features of many subjects by Spark, as `feature_definitions.compute` gives them. DataFrames in, DataFrames out.

Events are (subject columns, time, event_type, expected_clicks), times are milliseconds since 1970.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from processing.feature_definitions import Count, Decayed, Expected, Feature, Rate, Recency, compute, millis

EVENT_COLUMNS = ("time", "event_type", "expected_clicks")
_DAY = 86_400_000
_DIGITS = 6  # the last digits of a sum of doubles depend on the order; stored values must not


def snapshot(events: DataFrame, subject: Sequence[str], features: Sequence[Feature], at: int) -> DataFrame:
    """(subject, each feature): of all subjects that have an event before `at`."""
    values = {feature.name: _aggregate(feature, at) for feature in features}
    rows = events.filter(F.col("time") < at).groupBy(*subject)
    return rows.agg(*[_stored(value).alias(name) for name, value in values.items()])


def at_moments(
    events: DataFrame, moments: DataFrame, subject: Sequence[str], features: Sequence[Feature], prefix: str = ""
) -> DataFrame:
    """(moment_id, prefix + each feature) of `moments`: (moment_id, subject, time). Of each id there is one.

    Point-in-time: what is at or after `time` plays no part, nor do events without a subject. Running sums over a
    subject's events are read off at each moment and at the beginnings of its windows, so the price is a sort, however
    many moments a window holds. They are doubles: with decay, events should lie within a few hundred half-lives of each
    other.
    """
    base = [part for feature in features for part in _parts(feature)]
    windows = sorted({millis(part.window) for part in base if isinstance(part, Count | Expected) and part.window})
    events = events.dropna(subset=list(subject))  # all of anonymous mode would be one window, in one task
    reference = events.agg(F.max("time")).collect()[0][0] or 0
    sums = {_key(part): _increment(part, reference) for part in base}

    back = F.explode(F.array(*map(F.lit, [0, *windows]))).alias("back")
    queries = moments.select("moment_id", *subject, F.col("time").alias("at"), back)
    queries = queries.withColumn("time", F.col("at") - F.col("back"))
    facts = events.select(*subject, "time", *[value.alias(name) for name, value in sums.items()])
    before = F.col("moment_id").isNull()  # a moment comes before what happens at the same time
    so_far = Window.partitionBy(*subject).orderBy("time", before).rowsBetween(Window.unboundedPreceding, 0)
    running = {name: (F.max if name.startswith("last") else F.sum)(name).over(so_far) for name in sums}
    read = queries.unionByName(facts, allowMissingColumns=True).withColumns(running).filter(~before)
    at = [
        F.max(F.when(F.col("back") == back, F.col(name))).alias(_at(name, back))
        for name in sums
        for back in [0, *windows]
    ]
    found = read.groupBy("moment_id", "at").agg(*at)
    return found.select(
        "moment_id", *[_stored(_read(feature, reference)).alias(f"{prefix}{feature.name}") for feature in features]
    )


def before_each(
    events: DataFrame, moments: DataFrame, subject: Sequence[str], features: Sequence[Feature]
) -> DataFrame:
    """As `at_moments`, for a few moments: by a look at all events before each; none for those without any."""
    few = F.broadcast(moments.dropna(subset=list(subject)).select("moment_id", *subject, F.col("time").alias("at")))
    before = events.join(few, on=list(subject), how="inner").filter(F.col("time") < F.col("at"))
    found = [_stored(_aggregate(feature, F.col("at"))).alias(feature.name) for feature in features]
    return before.groupBy("moment_id", "at").agg(*found).drop("at")


def without_history(rows: DataFrame, features: Sequence[Feature], prefix: str) -> DataFrame:
    """`rows` in which prefix + each feature that is null, as a join leaves it, is that of a subject without events."""
    nothing = compute(features, [], 0)
    return rows.fillna({f"{prefix}{name}": value for name, value in nothing.items() if value is not None})


def _parts(feature: Feature) -> list[Count | Expected | Decayed | Recency]:
    return [feature.over, feature.under] if isinstance(feature, Rate) else [feature]


def _key(part: Count | Expected | Decayed | Recency) -> str:
    """Parts that differ in their windows alone share a running sum."""
    match part:
        case Count(_, types, _):
            return "count_" + "_".join(types)
        case Expected():
            return "expected"
        case Decayed(name, _, _):
            return f"decayed_{name}"
        case Recency(_, types):
            return "last_" + "_".join(types)


def _at(key: str, back: int) -> str:
    """Column of a running sum as it was so many milliseconds before the moment."""
    return f"{key}_{back}_before"


def _increment(part: Count | Expected | Decayed | Recency, reference: int) -> Column:
    """An event's summand in the running sum, or, for recency, its time."""
    match part:
        case Count(_, types, _):
            return F.col("event_type").isin(*types).cast("bigint")
        case Expected():
            return F.when(F.col("event_type") == "impression", F.col("expected_clicks")).otherwise(0.0)
        case Decayed(_, weights, half_life):
            return _weight(weights) * F.pow(F.lit(2.0), (F.col("time") - reference) / millis(half_life))
        case Recency(_, types):
            return F.when(F.col("event_type").isin(*types), F.col("time"))


def _read(feature: Feature, reference: int) -> Column:
    """A feature from the running sums at a moment and at the beginning of its window."""

    def sum_at(part: Count | Expected, back: int) -> Column:
        return F.coalesce(F.col(_at(_key(part), back)), F.lit(0))

    match feature:
        case Count(_, _, window) | Expected(_, window):
            now = sum_at(feature, 0)
            return now if window is None else now - sum_at(feature, millis(window))
        case Decayed(_, _, half_life):
            grown = F.coalesce(F.col(_at(_key(feature), 0)), F.lit(0.0))
            return grown * F.pow(F.lit(2.0), (F.lit(reference) - F.col("at")) / millis(half_life))
        case Rate(_, over, under):
            return _rate(feature, _read(over, reference), _read(under, reference))
        case Recency():
            return (F.col("at") - F.col(_at(_key(feature), 0))) / _DAY


def _aggregate(feature: Feature, at: int | Column) -> Column:
    time = F.col("time")
    match feature:
        case Count(_, types, window):
            inside = F.lit(True) if window is None else time >= at - millis(window)
            return F.count_if(F.col("event_type").isin(*types) & inside)
        case Expected(_, window):
            inside = (F.col("event_type") == "impression") & (time >= at - millis(window))
            return F.sum(F.when(inside, F.col("expected_clicks")).otherwise(0.0))
        case Decayed(_, weights, half_life):
            return F.sum(_weight(weights) * F.pow(F.lit(0.5), (F.lit(at) - time) / millis(half_life)))
        case Rate(_, over, under):
            return _rate(feature, _aggregate(over, at), _aggregate(under, at))
        case Recency(_, types):
            return (F.lit(at) - F.max(F.when(F.col("event_type").isin(*types), time))) / _DAY


def _rate(feature: Rate, over: Column, under: Column) -> Column:
    hits = F.least(over, under) if feature.is_share else over
    return (hits + feature.strength * feature.prior) / (under + feature.strength)


def _weight(weights: Mapping[str, float]) -> Column:
    pairs = [F.lit(part) for pair in weights.items() for part in pair]
    return F.coalesce(F.create_map(*pairs)[F.col("event_type")], F.lit(0.0))


def _stored(value: Column) -> Column:
    return F.round(value.cast("double"), _DIGITS)
