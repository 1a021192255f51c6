"""Metrics of probabilities, by hand and against their definitions."""

from __future__ import annotations

import numpy as np
import pytest

from processing.training.classification_metrics import evaluate, reliability

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


def test_intervals_are_over_people_whose_rows_hang_together() -> None:
    random = np.random.default_rng(5)
    people = np.repeat(np.arange(200), 25)
    rate = random.beta(0.4, 2, 200)[people]
    labels, said = random.random(5_000) < rate, np.full(5_000, 0.16)
    rows, by_people = evaluate(labels, said, resamples=300), evaluate(labels, said, people, resamples=300)
    for metric in ("log_loss", "brier", "shift"):
        (low, high), (wide_low, wide_high) = rows[metric].interval or [0, 0], by_people[metric].interval or [0, 0]
        assert rows[metric].mean == by_people[metric].mean
        assert wide_high - wide_low > 2 * (high - low) > 0, metric


def test_shift_and_slope_are_those_of_logistic_regression() -> None:
    random = np.random.default_rng(2)
    odds = random.normal(size=20_000)
    labels = random.random(20_000) < 1 / (1 + np.exp(-(0.5 + 0.8 * odds)))
    good = evaluate(labels, 1 / (1 + np.exp(-odds)), resamples=2)
    slope, shift = good["slope"], good["shift"]
    assert slope.low is not None and slope.high is not None and slope.low < 0.8 < slope.high < slope.low + 0.1
    assert shift.mean == pytest.approx(0.5, abs=0.08)
    assert evaluate(labels, np.full(20_000, 0.5), resamples=2)["slope"].mean is None
