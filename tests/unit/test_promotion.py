"""The gate between challenger and champion: each question alone, then what follows from the answers."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from infra.errors import ConfigurationError
from processing.metrics import Estimate, bootstrap
from processing.training import comparison, gate, recommenders
from processing.training.comparison import User
from processing.training.gate import Check, Decision, Histogram, Smoke
from processing.training.recipe import Recipe

AHEAD, NOISE = Estimate(0.02, 0.005, 0.04), Estimate(0.02, -0.001, 0.04)
GOOD = Smoke(visitors=100, with_lists=100, learned=60, seen=0, not_finite=0, repeated=0)


def test_the_first_champion_has_nothing_to_beat_and_says_how_it_does_beside_popularity() -> None:
    check = gate.better(NOISE, NOISE, champion=None, same_recipe=False)
    assert check.passed and "+0.0200 [-0.0010, +0.0400]" in check.detail
    behind = Estimate(-0.02, -0.03, -0.01)
    assert not gate.better(NOISE, behind, champion=None, same_recipe=False).passed  # popularity alone does better


def test_a_challenger_has_to_be_better_beyond_noise() -> None:
    assert gate.better(AHEAD, NOISE, "als-1", same_recipe=False).passed
    assert not gate.better(NOISE, AHEAD, "als-1", same_recipe=False).passed
    unknown = gate.better(bootstrap([]), bootstrap([]), "als-1", same_recipe=False)
    assert not unknown.passed and "nobody to compare on" in unknown.detail


def test_the_champions_recipe_on_newer_data_need_not_beat_itself() -> None:
    assert gate.better(bootstrap([0.0] * 50), NOISE, "als-1", same_recipe=True).passed


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"visitors": 0, "with_lists": 0}, "no visitors"),
        ({"learned": 0}, "nothing in them is of the model"),
        ({"with_lists": 99}, "1 of 100 lists are empty"),
        ({"seen": 2}, "2 items were met before"),
        ({"not_finite": 1}, "1 scores are no numbers"),
        ({"repeated": 3}, "3 items are there twice"),
    ],
)
def test_lists_that_make_no_sense_are_not_shown(wrong: dict[str, int], told: str) -> None:
    assert gate.smoke(GOOD).passed
    check = gate.smoke(replace(GOOD, **wrong))
    assert not check.passed and told in check.detail


def histogram(*counts: int) -> dict[str, Histogram]:
    return {"weight": Histogram(tuple(map(float, range(len(counts) - 1))), counts)}


def test_the_stability_index_is_that_of_its_definition() -> None:
    expected = (0.4 - 0.5) * math.log(0.4 / 0.5) + (0.6 - 0.5) * math.log(0.6 / 0.5)
    assert gate.psi([50, 50], [40, 60]) == pytest.approx(expected)
    assert gate.psi([10, 30], [100, 300]) == 0
    assert gate.psi([1, 1], [0, 0]) == math.inf


def test_data_that_drifted_keep_the_champion_and_the_check_names_them() -> None:
    before = histogram(500, 500)
    assert gate.drift(before, histogram(480, 520), 0.25).passed
    check = gate.drift(before, histogram(100, 900), 0.25)
    assert not check.passed and "weight beyond 0.25" in check.detail
    assert gate.drift(before, histogram(100, 900), 5.0).passed
    assert gate.drift({}, {}, 0.25).passed  # the first champion
    assert not gate.drift(before, {}, 0.25).passed  # the data are gone


def test_what_chance_gives_in_few_data_is_no_drift() -> None:
    assert gate.psi([5, 5], [3, 7]) < gate.psi([5, 5], [2, 8]) > 0.25
    assert gate.drift(histogram(5, 5), histogram(2, 8), 0.25).passed
    assert not gate.drift(histogram(500, 500), histogram(200, 800), 0.25).passed


def test_one_failed_check_is_enough_to_keep_the_champion() -> None:
    passed, failed = Check("smoke", True, ""), Check("drift", False, "moved")
    assert Decision((passed, passed)).promoted
    decision = Decision((passed, failed))
    assert not decision.promoted
    assert decision.to_dict() == {
        "promoted": False,
        "checks": [
            {"name": "smoke", "passed": True, "detail": ""},
            {"name": "drift", "passed": False, "detail": "moved"},
        ],
    }


def user(name: str, ours: str, popular: str, is_new: bool = False, device: str = "mobile") -> User:
    return User(name, ["a"], device, is_new, {"ours": list(ours), "popular": list(popular)})


def test_contestants_are_compared_on_the_same_users_by_segment() -> None:
    users = [user("1", "ab", "ba"), user("2", "ca", "cb", is_new=True), user("3", "a", "b", device="desktop")]
    shares = {"a": 0.5, "b": 0.25, "c": 1.0}
    results = comparison.compare(users, ["ours", "popular"], shares, items=4)
    found = {(result.contestant, result.segment): result for result in results}
    assert {segment: found["ours", segment].n_users for _, segment in found} == {
        "all": 3,
        "device=desktop": 1,
        "device=mobile": 2,
        "visitors=new": 1,
        "visitors=returning": 2,
    }
    ours = found["ours", "all"]
    second = 1 / math.log2(3)
    assert ours.estimates["ndcg"].mean == pytest.approx((1 + second + 1) / 3, abs=1e-6)
    assert ours.estimates["recall"].mean == 1 and ours.estimates["mrr"].mean == pytest.approx(2.5 / 3, abs=1e-6)
    assert ours.over_baseline.mean == pytest.approx((1 - second + second + 1) / 3, abs=1e-6)
    assert ours.coverage == 0.75
    assert ours.novelty_bits == pytest.approx((1 + 2 + 0 + 1 + 1) / 5)
    assert found["popular", "all"].over_baseline.mean is None


def test_without_users_there_are_no_numbers() -> None:
    [result] = comparison.compare([], ["popular"], {}, 0)
    assert (result.n_users, result.coverage, result.beats_baseline) == (0, None, None)
    assert comparison.row(result)["ndcg_interval"] is None


def test_a_recipe_keeps_all_its_parameters_and_takes_no_other() -> None:
    whole = recommenders.complete(Recipe("als", {"rank": 4}))
    assert whole.parameters["rank"] == 4 and {"alpha", "regularization", "seed"} <= whole.parameters.keys()
    assert recommenders.complete(whole) == whole == Recipe.from_dict(whole.to_dict())
    blend = Recipe("blend", {"members": [{"algorithm": "popular", "parameters": {}, "weight": 0.5}]})
    [member] = recommenders.complete(blend).parameters["members"]
    assert member == {"algorithm": "popular", "parameters": {"window_days": 0.0}, "weight": 0.5}
    with pytest.raises(ConfigurationError, match="als has no parameter depth"):
        recommenders.complete(Recipe("als", {"depth": 3}))
    with pytest.raises(ConfigurationError, match="no recommender is called 'oracle'"):
        recommenders.complete(Recipe("oracle"))


def test_a_model_of_clicks_has_to_know_more_than_the_place_beyond_noise() -> None:
    assert gate.informed(Estimate(0.02, 0.01, 0.03), "baseline").passed
    for saved in (Estimate(0.02, 0.0, 0.04), Estimate(-0.01, -0.02, -0.005), Estimate(None, None, None)):
        assert not gate.informed(saved, "baseline").passed
    champion = gate.better(Estimate(0.01, 0.004, 0.02), Estimate(0.02, 0.01, 0.03), "old", False, "log loss saved", "b")
    assert champion.passed and champion.detail == "log loss saved over old +0.0100 [+0.0040, +0.0200]"


@pytest.mark.parametrize(("error", "passed"), [(0.0, True), (0.05, True), (0.0501, False), (None, False)])
def test_probabilities_have_to_be_calibrated(error: float | None, passed: bool) -> None:
    assert gate.calibrated(error).passed is passed


@pytest.mark.parametrize(
    ("lowest", "highest", "passed"),
    [(0.01, 0.9, True), (0.2, 0.2, False), (math.nan, 0.5, False), (0.1, math.inf, False), (None, None, False)],
)
def test_probabilities_have_to_be_numbers_that_differ(lowest: float, highest: float, passed: bool) -> None:
    assert gate.varied(lowest, highest).passed is passed
