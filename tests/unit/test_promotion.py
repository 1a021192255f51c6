"""The gate between challenger and champion: each question alone, then what follows from the answers."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from infra.errors import ConfigurationError
from processing.algorithms import recipes
from processing.algorithms.recipes import Recipe
from processing.training import comparison, promotion, promotion_gate
from processing.training.classification_metrics import calibration
from processing.training.comparison import Result, User
from processing.training.metrics import Estimate, paired
from processing.training.model_files import Champion, Training
from processing.training.promotion_gate import Criterion, Decision, Histogram, Smoke, Window
from storage.batches.cuts import Cut

AHEAD, NOISE = Estimate(0.02, 0.01, 0.03, 500, 0.0001), Estimate(0.02, -0.001, 0.04, 500, 0.03)
GOOD = Smoke(visitors=100, with_lists=100, learned=60, seen=0, not_finite=0, repeated=0)


def test_the_first_champion_has_nothing_to_beat_and_says_how_it_does_beside_popularity() -> None:
    check = promotion_gate.better(NOISE, NOISE, champion=None, same_recipe=False)
    assert check.passed and "+0.0200 [-0.0010, +0.0400]" in check.detail
    behind = Estimate(-0.02, -0.03, -0.01)
    assert not promotion_gate.better(
        NOISE, behind, champion=None, same_recipe=False
    ).passed  # popularity alone does better


def test_a_challenger_has_to_be_better_beyond_noise() -> None:
    assert promotion_gate.better(AHEAD, NOISE, "als-1", same_recipe=False).passed
    assert not promotion_gate.better(NOISE, AHEAD, "als-1", same_recipe=False).passed
    unknown = promotion_gate.better(paired([]), paired([]), "als-1", same_recipe=False)
    assert not unknown.passed and "nobody to compare on" in unknown.detail


def test_few_users_and_a_second_question_of_the_day_tell_nothing() -> None:
    few = promotion_gate.better(paired([0.3] * 19), NOISE, "als-1", same_recipe=False)
    assert not few.passed and "19 users are too few to tell, 20 are not" in few.detail
    assert not promotion_gate.better(paired([0.3]), NOISE, "als-1", same_recipe=False).passed
    assert promotion_gate.better(paired([0.3, 0.2] * 10), NOISE, "als-1", same_recipe=False).passed
    again = promotion_gate.better(AHEAD, NOISE, "als-1", same_recipe=False, asked="ease-2")
    assert not again.passed and "ease-2 was compared with it today" in again.detail


def equals(random: np.random.Generator, users: int) -> npt.NDArray[np.float64]:
    """Differences of nDCG@10 between recipes of equal worth: most users have none."""
    ours, theirs = (np.where(random.random(users) < 0.35, random.beta(1.2, 2, users), 0) for _ in range(2))
    return np.where(random.random(users) < 0.4, 0, ours - theirs)


@pytest.mark.parametrize("users", [1, 3, 8, 20, 60])
def test_an_equal_seldom_passes_however_few_its_users(users: int) -> None:
    random = np.random.default_rng(users)
    passed = [
        promotion_gate.better(paired(equals(random, users).tolist()), NOISE, "als-1", same_recipe=False).passed
        for _ in range(600)
    ]
    assert sum(passed) <= 3  # 0.3 are expected


def test_an_equal_that_is_tried_for_90_days_wins_in_5_of_100_worlds_at_most() -> None:
    """500 users in a holdout of 18 days, of whom a day brings an eighteenth anew; and each day another challenger."""
    random, won, worlds = np.random.default_rng(1), 0, 40
    for world in range(worlds):
        differences = equals(random, 500 + 28 * 90).tolist()
        tries = (differences if world % 2 else equals(random, 500 + 28 * 90).tolist() for _ in range(90))
        won += any(
            promotion_gate.better(paired(tried[28 * day : 28 * day + 500]), NOISE, "als-1", same_recipe=False).passed
            for day, tried in enumerate(tries)
        )
    assert won <= 0.05 * worlds


BEHIND = Estimate(-0.2, -0.25, -0.15)


def test_nobody_is_promoted_who_is_worse_than_popularity_however_much_better_than_the_champion() -> None:
    retrained = promotion_gate.better(paired([]), BEHIND, "als-1", same_recipe=True)
    challenger = promotion_gate.better(AHEAD, BEHIND, "als-1", same_recipe=False)
    assert not retrained.passed and not challenger.passed
    assert "over popularity -0.2000" in retrained.detail and "but over popularity -0.2000" in challenger.detail


@pytest.mark.parametrize("same", [True, False], ids=["retrained", "another recipe"])
@pytest.mark.parametrize(("over", "shown"), [(BEHIND, "popular-for-als-1-on-b"), (NOISE, "als-1-on-b")])
def test_a_champion_that_popularity_beats_makes_no_more_lists(over: Estimate, shown: str, same: bool) -> None:
    recipe = Recipe("als", {"rank": 8})
    champion = Champion(1, "als-1", 1, recipe, {})
    training = Training("x-b", recipe if same else Recipe("ease"), 0, 1, True, True)
    role = promotion.CHALLENGER if same else promotion.CHAMPION
    results = [Result(role, "all", 50, {}, over, 0.1, 1.0)]
    refused = Decision((Criterion("better", False, ""),))
    cut = Cut("b", 2, "clicks", "", {}, {})
    chosen = promotion.in_force(cut, training, champion, refused, results)
    assert (chosen.version, chosen.recipe is None) == (shown, over is BEHIND)
    assert chosen.is_of("als-1", cut) and not chosen.is_of("als-0", cut)  # so its export is shown


def test_the_champions_recipe_on_newer_data_need_not_beat_itself() -> None:
    assert promotion_gate.better(paired([0.0] * 50), NOISE, "als-1", same_recipe=True).passed


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
    assert promotion_gate.smoke(GOOD).passed
    check = promotion_gate.smoke(replace(GOOD, **wrong))
    assert not check.passed and told in check.detail


def histogram(*counts: int) -> dict[str, Histogram]:
    return {"weight": Histogram(tuple(map(float, range(len(counts) - 1))), counts)}


def test_the_stability_index_is_that_of_its_definition() -> None:
    expected = (0.4 - 0.5) * math.log(0.4 / 0.5) + (0.6 - 0.5) * math.log(0.6 / 0.5)
    assert promotion_gate.psi([50, 50], [40, 60]) == pytest.approx(expected)
    assert promotion_gate.psi([10, 30], [100, 300]) == 0
    assert promotion_gate.psi([1, 1], [0, 0]) == math.inf


def test_data_that_drifted_keep_the_champion_and_the_check_names_them() -> None:
    before = histogram(500, 500)
    assert drifted(before, histogram(480, 520)).passed
    check = drifted(before, histogram(100, 900))
    assert not check.passed and "weight beyond 0.25" in check.detail
    assert promotion_gate.drift(before, Window(histogram(100, 900), {}), 5.0).passed
    assert drifted({}, {}).passed  # the first champion
    assert not drifted(before, {}).passed and not drifted(before, {}, {}).passed  # the data are gone


def drifted(
    before: dict[str, Histogram], now: dict[str, Histogram], preceding: dict[str, Histogram] | None = None
) -> Criterion:
    return promotion_gate.drift(before, Window(now, preceding or {}), 0.25)


def test_what_has_changed_for_a_window_is_the_new_normal() -> None:
    before, now = histogram(500, 500), histogram(100, 900)
    check = drifted(before, now, histogram(110, 890))
    assert check.passed and "weight changed, and stayed so for a window: the new normal" in check.detail
    assert not drifted(before, now, histogram(500, 500)).passed  # since this window
    assert not drifted(before, now, histogram(0, 0)).passed  # nobody knows since when


def test_what_chance_gives_in_few_data_is_no_drift() -> None:
    assert promotion_gate.psi([5, 5], [3, 7]) < promotion_gate.psi([5, 5], [2, 8]) > 0.25
    assert drifted(histogram(5, 5), histogram(2, 8)).passed
    assert not drifted(histogram(500, 500), histogram(200, 800)).passed


def windows_of(random: np.random.Generator, visitors: int) -> dict[str, npt.NDArray[np.float64]]:
    """Ten features of visitors, who have 24 impressions each, all with the visitor's value."""
    shared = random.normal(size=visitors)
    return {
        f"feature {number}": np.repeat(np.exp(0.7 * shared + 0.7 * random.normal(size=visitors)), 24)
        for number in range(10)
    }


def in_bins(
    values: dict[str, npt.NDArray[np.float64]], visitors: int, like: dict[str, Histogram]
) -> dict[str, Histogram]:
    found = {}
    for name, of in values.items():
        share = of / of.mean() if of.mean() else of
        edges = like[name].edges if like else tuple(np.unique(np.percentile(share, np.arange(10, 100, 10))))
        counts = np.bincount(np.searchsorted(edges, share), minlength=len(edges) + 1)
        found[name] = Histogram(edges, tuple(counts.tolist()), visitors)
    return found


@pytest.mark.parametrize("visitors", [50, 100, 200, 400])
def test_drift_is_a_feature_that_fell_to_0_and_none_where_nothing_changed(visitors: int) -> None:
    """As simulated: with nothing changed 0 to 3 of 100 are refused, with a feature at 0 all."""
    random, false, missed = np.random.default_rng(visitors), 0, 0
    for _ in range(60):
        before = in_bins(windows_of(random, visitors), visitors, {})
        now = windows_of(random, visitors)
        false += not drifted(before, in_bins(now, visitors, before)).passed
        broken = now | {"feature 3": np.zeros(24 * visitors)}
        check = drifted(before, in_bins(broken, visitors, before))
        missed += check.passed or "feature 3" not in check.detail.split(";")[1]
    assert false <= 4 and missed == 0


def calibrated(labels: npt.NDArray[np.bool_], said: npt.NDArray[np.float64]) -> Criterion:
    return promotion_gate.calibrated(*calibration(labels, said, np.arange(len(labels)) // 5))


@pytest.mark.parametrize("rate", [0.3, 0.03, 0.004])
def test_calibration_is_relative_to_the_base_rate(rate: float) -> None:
    random = np.random.default_rng(1)
    odds = math.log(rate / (1 - rate)) + random.normal(size=40_000)
    truth = 1 / (1 + np.exp(-odds))
    labels = random.random(40_000) < truth
    assert calibrated(labels, truth).passed
    assert calibrated(labels[:600], truth[:600]).passed  # few, so noise may shift them
    wrong = {
        "twice": np.minimum(2 * truth, 0.999),
        "half": truth / 2,
        "nothing": np.zeros(40_000),
        "too bold": 1 / (1 + np.exp(-(2 * odds - math.log(rate / (1 - rate))))),
        "backwards": truth[::-1],
    }
    assert {name: calibrated(labels, said).passed for name, said in wrong.items()} == dict.fromkeys(wrong, False)


def test_one_failed_check_is_enough_to_keep_the_champion() -> None:
    passed, failed = Criterion("smoke", True, ""), Criterion("drift", False, "moved")
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
    whole = recipes.complete(Recipe("als", {"rank": 4}))
    assert whole.parameters["rank"] == 4 and {"alpha", "regularization", "seed"} <= whole.parameters.keys()
    assert recipes.complete(whole) == whole == Recipe.from_dict(whole.to_dict())
    blend = Recipe("blend", {"members": [{"algorithm": "popular", "parameters": {}, "weight": 0.5}]})
    [member] = recipes.complete(blend).parameters["members"]
    assert member == {"algorithm": "popular", "parameters": {"window_days": 0.0}, "weight": 0.5}
    with pytest.raises(ConfigurationError, match="als has no parameter depth"):
        recipes.complete(Recipe("als", {"depth": 3}))
    with pytest.raises(ConfigurationError, match="no recommender is called 'oracle'"):
        recipes.complete(Recipe("oracle"))


def test_a_model_of_clicks_has_to_know_more_than_the_place_beyond_noise() -> None:
    assert promotion_gate.informed(Estimate(0.02, 0.01, 0.03), "baseline").passed
    for saved in (Estimate(0.02, 0.0, 0.04), Estimate(-0.01, -0.02, -0.005), Estimate(None, None, None)):
        assert not promotion_gate.informed(saved, "baseline").passed
    champion = promotion_gate.better(
        Estimate(0.01, 0.004, 0.02, 90, 0.0002), Estimate(0.02, 0.01, 0.03), "old", False, "log loss saved", "b"
    )
    told = "log loss saved over old +0.0100 [+0.0040, +0.0200], p 0.0002 of 0.00056 a day"
    assert champion.passed and champion.detail == told


@pytest.mark.parametrize(
    ("lowest", "highest", "passed"),
    [(0.01, 0.9, True), (0.2, 0.2, False), (math.nan, 0.5, False), (0.1, math.inf, False), (None, None, False)],
)
def test_probabilities_have_to_be_numbers_that_differ(lowest: float, highest: float, passed: bool) -> None:
    assert promotion_gate.varied(lowest, highest).passed is passed
