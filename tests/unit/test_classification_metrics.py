"""Metrics of probabilities, by hand and against their definitions."""

from __future__ import annotations

import numpy as np
import pytest

from processing.classification_metrics import evaluate, reliability

LABELS = [1, 0, 1, 0, 0]
SURELY = [0.9, 0.8, 0.8, 0.2, 0.1]


def test_areas_count_pairs_in_order_and_ties_as_halves() -> None:
    good = evaluate(LABELS, SURELY, resamples=50)
    assert good["auc"].mean == pytest.approx(5.5 / 6)
    # A precision of 1 for the first half of the positives, of 2/3 where the rest is found together with a negative.
    assert good["pr_auc"].mean == pytest.approx((1 + 2 / 3) / 2)
    assert good["log_loss"].mean == pytest.approx(-np.log([0.9, 0.2, 0.8, 0.8, 0.9]).mean())
    assert good["brier"].mean == pytest.approx((0.01 + 0.64 + 0.04 + 0.04 + 0.01) / 5)


def test_who_knows_nothing_gets_a_half_and_the_base_rate() -> None:
    good = evaluate(LABELS, [0.4] * 5, resamples=50)
    assert good["auc"].mean == 0.5 and good["pr_auc"].mean == 0.4
    assert good["ece"].mean == 0  # whatever the order of the rows: equal probabilities share a bin


def test_an_interval_holds_the_truth_and_narrows_with_more_rows() -> None:
    random = np.random.default_rng(3)
    widths = []
    for rows in (200, 5_000):
        labels = random.random(rows) < 0.3
        estimate = evaluate(labels, random.normal(labels * 1.0), resamples=200)["auc"]  # true area: 0.760
        assert estimate.low is not None and estimate.high is not None
        assert estimate.low < 0.760 < estimate.high
        widths.append(estimate.high - estimate.low)
    assert widths[1] < widths[0] / 3


def test_a_reliability_curve_shows_who_is_too_sure() -> None:
    surely = np.repeat([0.05, 0.95], 1000)
    labels = np.random.default_rng(1).random(2000) < np.repeat([0.25, 0.75], 1000)
    low, high = reliability(labels, surely, bins=2)
    assert (low.predicted, high.predicted, low.count, high.count) == (0.05, 0.95, 1000, 1000)
    assert low.observed == pytest.approx(0.25, abs=0.04) and high.observed == pytest.approx(0.75, abs=0.04)
    assert evaluate(labels, surely, resamples=5)["ece"].mean == pytest.approx(0.2, abs=0.03)


def test_one_label_alone_is_no_test() -> None:
    with pytest.raises(ValueError, match="one label only"):
        evaluate([1, 1], [0.2, 0.3])
