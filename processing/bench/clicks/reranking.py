"""Click models beside the order that visitors were shown, on anybody's log of session actions.

Protocol. Lists are split by the time of their click. A model learns which items of the train part's lists were clicked;
each list of the test part is then put in the order of its probabilities, and the reciprocal of the clicked item's place
is averaged over lists. Intervals, also of differences from the orders that need no model, are over users, by bootstrap.
Inner folds, for the calibration, keep a user's lists together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyspark.sql import SparkSession

from processing.bench.clicks.catalog import ORDERS, order
from processing.bench.clicks.impressions import FEATURES, Impressions, reciprocal_ranks
from processing.training import classifiers
from processing.training.classification_metrics import evaluate, reliability
from processing.training.metrics import Estimate, bootstrap_ratio

Progress = Callable[[str], None]
Matrix = npt.NDArray[np.float64]
GIVEN = "given"
# One choice: there are rows enough, and each more costs minutes.
_GRIDS: dict[str, classifiers.Grid] = {"gbt": ({"maxDepth": 5},), "logistic": ({"regParam": 0.0001},)}
_INNER = 2


def run(
    spark: SparkSession | None, shown: Impressions, algorithms: Sequence[str], seed: int, tell: Progress
) -> dict[str, Any]:
    """Facts of each algorithm, on the lists of the test part."""
    test = ~shown.train
    users, rows = shown.users[test], test[shown.lists]
    results, ranks = {}, {GIVEN: reciprocal_ranks(shown, order(GIVEN)(shown))[test]}
    for name in algorithms:
        tell(name)
        facts: dict[str, Any] = {}
        if name in ORDERS:
            scores = order(name)(shown)
        else:
            assert spark is not None
            scores, facts = _learnt(spark, shown, rows, name, seed)
        ranks[name] = reciprocal_ranks(shown, scores)[test]
        results[name] = _estimates("mrr", ranks[name], users) | _estimates("first", ranks[name] == 1, users)
        for other in ORDERS:
            if other in ranks and other != name and name != GIVEN:
                results[name] |= _estimates(f"mrr_over_{other}", ranks[name] - ranks[other], users)
        results[name] |= {"lists": int(test.sum()), "users": len(np.unique(users)), **facts}
    return results


def _estimates(name: str, values: npt.NDArray[Any], users: npt.NDArray[np.int64]) -> dict[str, Any]:
    estimate: Estimate = bootstrap_ratio(np.bincount(users, weights=values).tolist(), np.bincount(users).tolist())
    return {name: estimate.mean, f"{name}_interval": estimate.interval}


def _learnt(
    spark: SparkSession, shown: Impressions, test: npt.NDArray[np.bool_], name: str, seed: int
) -> tuple[Matrix, dict[str, Any]]:
    """A probability for each row of the test part, 0 for the others; and how good they are as such."""
    known = {feature: shown.features[:, at] for at, feature in enumerate(FEATURES)}
    known = {feature: values for feature, values in known.items() if not np.isnan(values[~test]).all()}
    table = pa.table(
        {
            **known,
            "_row": np.arange(len(shown.labels)),
            "_clicked": shown.labels,
            "_inner": shown.users[shown.lists] % _INNER,
        }
    )
    train = classifiers.frame_of(spark, table.filter(~test)).cache()
    model = classifiers.fit(train, "_clicked", list(known), (), "_inner", name, _GRIDS[name], seed)
    train.unpersist()
    scored = model.score(spark.createDataFrame(table.filter(test))).select("_row", "probability").toArrow()
    probabilities = np.zeros(len(test))
    probabilities[scored["_row"].to_numpy()] = scored["probability"].to_numpy()
    labels, of_test = shown.labels[test], probabilities[test]
    good = evaluate(labels, of_test, shown.users[shown.lists][test], resamples=200)
    return probabilities, {
        **{metric: estimate.mean for metric, estimate in good.items()},
        **{f"{metric}_interval": estimate.interval for metric, estimate in good.items() if estimate.interval},
        "reliability": [asdict(one) for one in reliability(labels, of_test)],
        "parameters": dict(model.parameters),
        "importances": dict(model.importances),
    }
