"""A recommender's candidates as a ranker takes them: where they stood, and what was known at their moment. DataFrames.

FEATURES are those of a list's rows that differ within a list: of the item, of visitor and item together, and of the
item after what the visitor viewed last, as `feature_definitions` has them, and the recommender's own rank and score.
"""

from __future__ import annotations

from collections.abc import Sequence

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from processing.feature_definitions import COVISIT, ITEM, PAIR, Feature
from processing.features import covisits, values

DEPTH = 3  # candidates for each place of a list
_RETRIEVAL = ("retrieval_rank", "retrieval_score", "retrieval_share")
_DEFINED: Sequence[tuple[str, Sequence[Feature]]] = (("item_", ITEM), ("pair_", PAIR), (covisits.PREFIX, COVISIT))
FEATURES = (*_RETRIEVAL, *(f"{prefix}{feature.name}" for prefix, features in _DEFINED for feature in features))


def _retrieved(top: DataFrame) -> DataFrame:
    """What a model's `top` gives, with what it says of each row: the logarithm of its rank, its score, and the score's
    share of the visitor's best."""
    best = F.max("score").over(Window.partitionBy("visitor_id"))
    return top.withColumns(
        {
            "retrieval_rank": F.log2(F.col("rank") + 2.0),
            "retrieval_score": F.col("score").cast("double"),
            "retrieval_share": F.coalesce(F.try_divide("score", best).cast("double"), F.lit(0.0)),
        }
    )


def described(top: DataFrame, seen: DataFrame, at: int) -> DataFrame:
    """(visitor_id, rank, item_id, each of FEATURES) of what a model's `top` gives, as of `at`, in milliseconds since
    1970. `seen`: what `features.occurrences` gives; what is at or after `at` plays no part."""
    rows = _retrieved(top).join(covisits.last_of_each(seen, at), on="visitor_id", how="left")
    for subject, events, prefix, features in (
        (("item_id",), seen, "item_", ITEM),
        (("visitor_id", "item_id"), seen, "pair_", PAIR),
        (covisits.PAIR, covisits.follows(seen), covisits.PREFIX, COVISIT),
    ):
        asked = events.join(rows.select(*subject).distinct(), on=list(subject), how="left_semi")
        known = values.snapshot(asked, subject, features, at)
        known = known.withColumnsRenamed({feature.name: f"{prefix}{feature.name}" for feature in features})
        rows = values.without_history(rows.join(known, on=list(subject), how="left"), features, prefix)
    return rows.select("visitor_id", "rank", "item_id", *FEATURES)


def wanted(candidates: DataFrame, relevant: DataFrame) -> DataFrame:
    """A list a visitor, all candidates, labelled by what the visitor met afterwards. `candidates`: what `described`
    gives; `relevant`: (visitor_id, relevant: item ids)."""
    met = relevant.select("visitor_id", F.explode("relevant").alias("item_id"), F.lit(1).alias("met"))
    rows = candidates.join(relevant.select("visitor_id"), on="visitor_id", how="left_semi")
    rows = rows.join(met, on=["visitor_id", "item_id"], how="left")
    return rows.withColumns({"label": F.coalesce("met", F.lit(0)), "list": F.lit("")})


def shown(candidates: DataFrame, examples: DataFrame) -> DataFrame:
    """The lists of impressions, labelled by their clicks: of each what its visitor had as a candidate, with the
    features of its own moment. `examples`: rows of `training_examples`."""
    known = candidates.select("visitor_id", "item_id", "rank", *_RETRIEVAL)
    at = F.concat_ws(" ", F.coalesce("list_id", F.lit("")), F.unix_millis("occurred_at").cast("string"))
    rows = examples.join(known, on=["visitor_id", "item_id"], how="inner")
    return rows.withColumns({"label": F.col("clicked").cast("int"), "list": F.coalesce("impression_id", at)})
