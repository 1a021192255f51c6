"""Splits into train and test."""

from __future__ import annotations

import numpy as np
import pytest

from processing.bench.splits import Split

USERS = np.repeat(np.arange(5), [4, 8, 1, 3, 40])


def test_a_stratified_split_takes_the_same_share_of_each_user() -> None:
    [mask] = Split.parse("stratified:0.75").masks(USERS, None, seed=3)
    assert np.bincount(USERS[mask]).tolist() == [3, 6, 1, 2, 30]
    [again] = Split.parse("stratified:0.75").masks(USERS, None, seed=3)
    [other] = Split.parse("stratified:0.75").masks(USERS, None, seed=4)
    assert (mask == again).all() and (mask != other).any()


def test_a_split_by_time_has_everything_early_in_train() -> None:
    times = np.random.default_rng(1).permutation(len(USERS)).astype(float)
    [mask] = Split.parse("time:0.8").masks(USERS, times, seed=3)
    assert times[mask].max() < times[~mask].min() and abs(mask.mean() - 0.8) < 0.02
    with pytest.raises(ValueError, match="needs a column timestamp"):
        next(Split.parse("time:0.8").masks(USERS, None, seed=3))


def test_folds_test_each_row_once() -> None:
    masks = list(Split.parse("kfold:5").masks(USERS, None, seed=3))
    assert len(masks) == 5
    assert (sum(~mask for mask in masks) == 1).all()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("random:0.5", "none of stratified"),
        ("stratified", "'' is no number"),
        ("stratified:1", "between 0 and 1"),
        ("time:-0.1", "between 0 and 1"),
        ("time:nan", "between 0 and 1"),
        ("kfold:1", "at least 2 folds"),
        ("kfold:2.5", "a whole number"),
    ],
)
def test_a_split_that_is_none_says_why(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Split.parse(text)
