"""Learns in which order a recommender's candidates are best shown, and evaluates the lists that visitors then see.

Three times as many candidates as a list has places are ordered by LambdaMART (XGBoost's rank:ndcg), which begins with
the recommender's order and knows the score, the item, and what passed between visitor and item. It learns from two
kinds of lists: visitors' candidates, by what each met afterwards, and impressions of candidates, by their clicks.

The ranker is promoted when the final lists are better than those that are not reordered, beyond noise (paired bootstrap
over users): by nDCG@10 of what users met first afterwards, on the recommender's own holdout, or by nDCG@10 of the
clicks on the impressions after the split. By neither may they be worse beyond noise. For that it learns from the train
part alone, afterwards from all lists. Otherwise the recommender's order is shown. Each batch decides anew.

Writes the rows of role `final` of evaluations: of the lists that visitors see. MLflow gets the model `ranker`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from processing.runtime import job
from processing.runtime.job import Job
from processing.training import model_files, promotion, ranker
from processing.training.ranker import FINAL


def work(this: Job) -> dict[str, Any]:
    """Learns, judges, decides, learns from all, writes."""
    root = this.settings.hdfs.root
    training, decided = model_files.read(this.fs, root, this.cut), model_files.in_force(this.fs, root, this.cut)
    learnt = ranker.learn(this, training, decided)
    settled = ranker.settle(this, learnt)
    results = ranker.results(learnt) if learnt is not None and settled.promoted else None
    promotion.write_final(this, training, decided, FINAL, results)
    if learnt is None:
        return {"ranker": settled.version, "promoted": False}
    ranker.record(this, learnt, decided)
    judged = learnt.judged
    return {
        "ranker": settled.version,
        "promoted": settled.promoted,
        "n_users": judged.users,
        "ndcg_over_not_reordered": judged.final.mean,
        "shown_lists": judged.lists,
        "shown_over_not_reordered": judged.shown.mean,
    }


def main(argv: Sequence[str] | None = None) -> int:
    return job.run("train_ranker", __doc__ or "", work, argv)


if __name__ == "__main__":
    sys.exit(main())
