"""What is known of shown items before a click, and nothing that is not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from processing.bench.clicks.actions import read_actions
from processing.bench.clicks.impressions import (
    FEATURES,
    Action,
    Impressions,
    as_given,
    reciprocal_ranks,
    replay,
    touched_first,
)
from processing.bench.commands import bench
from processing.bench.files import FileError

IMAGE, CLICKOUT, LIST = "interaction item image", "clickout item", ("a", "b", "c", "d")


def act(session: str, time: float, kind: str, item: str, **fields: object) -> Action:
    """What user u of this session does; a clickout shows LIST at 10, 20, 30 and 40."""
    shown = {"impressions": LIST, "prices": (40.0, 10.0, 20.0, 30.0)} if kind == CLICKOUT else {}
    return Action(**{"user": f"u{session}", "session": session, "time": time, "step": int(time), "kind": kind,
                     "reference": item, **shown, **fields})  # fmt: skip


LOG = [
    act("1", 1, IMAGE, "c"),
    act("1", 2, IMAGE, "b"),
    act("1", 3, IMAGE, "c"),
    act("1", 4, CLICKOUT, "c"),
    act("2", 5, CLICKOUT, "d"),
    act("2", 6, CLICKOUT, "a"),
    act("3", 7, IMAGE, "d"),
    act("3", 8, CLICKOUT, "d"),
    act("4", 9, CLICKOUT, "b", user="u1"),
]


def column(shown: Impressions, name: str, number: int = 0) -> list[float]:
    values: list[float] = shown.features[shown.lists == number, FEATURES.index(name)].tolist()
    return values


def test_features_say_what_the_session_did_before() -> None:
    shown = replay(LOG, 0.7)
    assert column(shown, "touches") == pytest.approx(np.log1p([0, 1, 2, 0]))
    assert column(shown, "recency") == [0, 1 / 2, 1, 0]
    assert column(shown, "is_last_touched") == [0, 0, 1, 0]
    assert column(shown, "places_after_last") == [-2, -1, 0, 1]
    assert column(shown, "price_rank") == pytest.approx([1, 0, 1 / 3, 2 / 3])
    assert column(shown, "touched_in_list") == [2] * 4
    assert column(shown, "clicks", 2) == pytest.approx(np.log1p([0, 0, 0, 1]))  # in the list before
    assert column(shown, "touched_by_user", 4) == [0, 1, 1, 0]  # as u1, in session 1
    assert shown.train.tolist() == [True, True, True, False, False]
    assert shown.labels.reshape(-1, 4).argmax(axis=1).tolist() == [2, 3, 0, 3, 1]


def test_a_click_and_what_follows_it_do_not_show_in_its_features() -> None:
    shown = replay(LOG, 0.7)
    for number, action in enumerate(LOG):
        if action.kind == CLICKOUT:
            place = sum(of.kind == CLICKOUT for of in LOG[:number])
            other = replace(action, reference=next(item for item in LIST if item != action.reference))
            planted = act(action.session, action.time + 0.5, IMAGE, action.reference, user=action.user)
            for log in ([*LOG[:number], other, *LOG[number + 1 :]], [*LOG[: number + 1], planted, *LOG[number + 1 :]]):
                rows, before = (of.features[of.lists <= place] for of in (replay(log, 0.7), shown))
                assert np.array_equal(rows, before, equal_nan=True), action


def test_click_rates_are_of_the_train_part_and_of_earlier_lists_alone() -> None:
    shown = replay(LOG, 0.7)
    assert column(shown, "click_rate", 0) == [0] * 4  # nothing is known yet
    assert column(shown, "click_rate", 1) == pytest.approx([5 / 21, 5 / 21, 6 / 21, 5 / 21])
    assert column(shown, "log_shown", 3) == pytest.approx(np.log1p([3] * 4))
    assert column(shown, "click_rate", 3) == column(shown, "click_rate", 4)  # what is tested teaches nothing
    assert column(shown, "click_rate", 3) == pytest.approx([6 / 23, 5 / 23, 6 / 23, 6 / 23])


def test_lists_are_ranked_with_ties_as_they_were_shown() -> None:
    shown = replay(LOG, 0.7)
    assert reciprocal_ranks(shown, as_given(shown)).tolist() == pytest.approx([1 / 3, 1 / 4, 1, 1 / 4, 1 / 2])
    assert reciprocal_ranks(shown, touched_first(shown)).tolist() == pytest.approx([1, 1 / 4, 1 / 2, 1, 1 / 2])


def test_clickouts_without_a_list_or_of_an_item_elsewhere_are_counted() -> None:
    odd = [act("5", 10, CLICKOUT, "a", impressions=(), prices=()), act("5", 11, CLICKOUT, "x")]
    shown = replay([*LOG, *odd], 0.7)
    assert (shown.without_list, shown.clicked_elsewhere, len(shown.train)) == (1, 1, 5)
    assert len(replay([], 0.7).train) == 0


HEAD = "user_id,session_id,timestamp,step,action_type,reference,impressions,prices\n"


def test_a_log_is_read_and_its_faults_are_named(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text(HEAD + "u,s,5,1,clickout item,a,a|b,10|20\nu,s,6,2,search for poi,,,\n")
    assert read_actions(path) == [
        Action("u", "s", 5.0, 1, CLICKOUT, "a", ("a", "b"), (10.0, 20.0)),
        Action("u", "s", 6.0, 2, "search for poi", ""),
    ]
    for line, reason in (
        ("u,s,5,1,clickout item,a,a|b,10", r"row 1: 2 impressions, but 1 prices"),
        ("u,s,5,1,clickout item,a,a|b,10|x", r"row 1: column 'prices': .*'x'"),
        ("u,s,now,1,clickout item,a,a|b,10|20", r"column 'timestamp': .*now"),
        ("u,,5,1,clickout item,a,a|b,10|20", r"column 'session_id' has 1 empty"),
    ):
        path.write_text(HEAD + line + "\n")
        with pytest.raises(FileError, match=rf"log\.csv: {reason}"):
            read_actions(path)


def test_items_that_look_like_numbers_are_those_of_the_lists(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text(HEAD + "1,1,5,1,clickout item,007,007,10\n01,1,6,2,clickout item,7,7,20\n")
    first, second = read_actions(path)
    assert (first.user, first.reference, first.impressions) == ("1", "007", ("007",))
    assert (second.user, second.reference, second.impressions) == ("01", "7", ("7",))


def test_touched_items_come_first_without_any_model(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    lines = []
    for n in range(40):
        lines += [f"u{n},s{n},{n}.1,1,{IMAGE},c,,", f"u{n},s{n},{n}.2,2,{CLICKOUT},c,a|b|c,1|2|3"]
    path.write_text(HEAD + "\n".join(lines))
    result = CliRunner().invoke(bench, ["impressions", str(path), "--algorithms", "given,touched"])
    assert result.exit_code == 0, result.output
    assert "32 lists to learn from, 8 to order" in result.output
    assert "+0.667" in result.output
    result = CliRunner().invoke(bench, ["impressions", str(path), "--split", "kfold:5"])
    assert result.exit_code == 2 and "lists are split by time alone" in result.output
