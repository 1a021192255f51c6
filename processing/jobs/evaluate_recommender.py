"""Evaluates a batch's challenger on the untouched last fifth of time, and decides whether it becomes champion.

recall, nDCG, MAP and MRR at 10, with 95 % bootstrap intervals over users, coverage and novelty; of all users, of new
and returning ones and by type of device; of the challenger, of the champion and of popularity. The registry's champion
is of an earlier batch and its model has seen this holdout: so its recipe is fitted anew to the train part. All rank,
for the same users, the items that each has not met before the split; what they met first afterwards is relevant.

The challenger is promoted when it is better than the champion beyond noise (nDCG@10 of the same users, by Student's t;
a first one has nothing to beat, and the champion's own recipe on newer data need not beat itself), when its lists for
100 visitors make sense, and when the data have not drifted (processing.drift_threshold). Who betters the champion is
asked once a day, so that an equal does not win by asking each hour. Nobody is promoted who is worse than
popularity beyond noise. Otherwise the champion stays, and this batch's lists are made by its recipe, or of popular
items where popularity beats that, too. Who was champion is kept with the batch: a rerun decides the same.

Writes a row per contestant and segment to evaluations; MLflow gets metrics, plots and gate.json.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from processing.runtime import job
from processing.runtime.job import Job
from processing.training import model_files, promotion
from processing.training.comparison import POPULAR


def work(this: Job) -> dict[str, Any]:
    """Compares, decides, writes."""
    registry, root = this.registry(), this.settings.hdfs.root
    training = model_files.read(this.fs, root, this.cut)
    champion = model_files.champion_of(
        this.fs, root, this.cut, lambda: model_files.champion(registry.champion(), this.batch)
    )
    users, results = promotion.compare(this, training, champion)
    taken_back = training.recipe.to_dict() in registry.taken_back(this.batch)
    asked = registry.asked(this.day, this.batch)
    decision = promotion.decide(this, training, champion, users, results, taken_back, asked)
    promotion.write(this, training, champion, results)
    chosen = promotion.in_force(this.cut, training, champion, decision, results)
    model_files.decide(this.fs, root, this.cut, chosen)
    promotion.record(this, registry, training, results, decision)
    numbers = {result.contestant: result.estimates["ndcg"].mean for result in results if result.segment == "all"}
    return {
        "n_users": len(users),
        "ndcg_at_10": numbers[promotion.CHALLENGER],
        "baseline": numbers[POPULAR],
        "promoted": decision.promoted,
        "in_force": chosen.version,
    }


def main(argv: Sequence[str] | None = None) -> int:
    return job.run("evaluate_recommender", __doc__ or "", work, argv)


if __name__ == "__main__":
    sys.exit(main())
