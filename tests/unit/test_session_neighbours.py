"""Next-item models on sessions small enough to count by hand."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from processing.algorithms.session_neighbours import MarkovChain, NearestSessions
from processing.bench.commands import bench
from processing.bench.files import FileError, read_sessions
from processing.bench.recommenders.baselines import PopularItems, vsknn
from processing.bench.recommenders.next_item import top

SESSIONS = [[1, 2, 3], [1, 2, 4], [2, 3], [5, 6]]


def test_a_chain_counts_what_directly_followed() -> None:
    assert MarkovChain(SESSIONS).scores([9, 2]) == {3: 2 / 3, 4: 1 / 3}
    assert MarkovChain(SESSIONS).scores([2, 9]) == {}


def test_popular_items_fill_up_and_ties_go_by_item() -> None:
    popular = list(PopularItems(SESSIONS).scores([1]))
    assert popular[0] == 2
    assert top({7: 0.5, 6: 0.5}, popular, 4) == [6, 7, 2, 1]


def test_neighbours_with_late_items_count_more_and_rare_items_too() -> None:
    near = vsknn(SESSIONS)
    scores = near.scores([5, 1])  # 1 is the last: sessions with it weigh 1, the one with 5 weighs a half
    assert scores[4] > scores[6] > 0
    assert scores[4] > scores[2]  # both in a neighbour, but 2 is in three sessions
    assert sum(scores.values()) == pytest.approx(1)
    assert near.scores([99]) == {}


def test_what_was_long_ago_leads_nowhere() -> None:
    assert 3 in vsknn(SESSIONS).scores([1, *[99] * 5])
    assert not any(vsknn(SESSIONS).scores([1, *[99] * 12]).values())


def test_a_blend_adds_the_chain() -> None:
    assert NearestSessions(SESSIONS, chain=0.0).scores([1, 2]) == vsknn(SESSIONS).scores([1, 2])
    assert NearestSessions(SESSIONS, chain=9.0).scores([1, 2])[3] > 6


def written(path: Path, sessions: list[list[int]]) -> Path:
    rows = [f"{n}\t{item}\t{n * 100 + at}" for n, session in enumerate(sessions) for at, item in enumerate(session)]
    path.write_bytes(gzip.compress("\n".join(["SessionId\tItemId\tTime", *reversed(rows)]).encode()))
    return path


def test_sessions_are_read_in_the_order_of_their_times(tmp_path: Path) -> None:
    [sessions] = read_sessions(written(tmp_path / "s.tsv.gz", SESSIONS))
    ids = [[int(sessions.item_ids[item]) for item in session] for session in sessions.items]
    assert ids == SESSIONS
    assert sessions.ends == sorted(sessions.ends)
    (tmp_path / "bad.csv").write_text("session,item\ns,i\n")
    with pytest.raises(FileError, match=r"bad\.csv: no column 'timestamp' among session, item"):
        read_sessions(tmp_path / "bad.csv")


def test_a_cycle_is_learnt_and_what_nobody_has_is_not_counted(tmp_path: Path) -> None:
    train = written(tmp_path / "train.tsv.gz", [[n % 30, (n + 1) % 30, (n + 2) % 30] for n in range(300)])
    test = written(tmp_path / "test.tsv.gz", [[3, 4, 5], [10, 11, 999]])
    arguments = ["next-item", "--train", str(train), "--test", str(test), "--k", "1", "--json"]
    result = CliRunner().invoke(bench, arguments)
    assert result.exit_code == 0, result.output
    facts = json.loads(result.stdout)["results"]
    assert facts["markov"]["recall"] == facts["markov"]["mrr"] == 1
    assert facts["popularity"]["recall"] < 0.5
    assert facts["markov"]["predictions"] == 3
    ahead = facts["markov"]["recall_over_popularity"]
    assert ahead == pytest.approx(facts["markov"]["recall"] - facts["popularity"]["recall"], abs=1e-5)
    assert facts["vsknn"].keys() > {"mrr_over_markov", "mrr_over_markov_interval"}
    assert "mrr_over_markov" not in facts["markov"]


def test_an_unknown_algorithm_is_named(tmp_path: Path) -> None:
    train = str(written(tmp_path / "train.tsv.gz", SESSIONS))
    result = CliRunner().invoke(bench, ["next-item", "--train", train, "--test", train, "--algorithms", "lstm"])
    assert result.exit_code == 2 and "--algorithms: lstm: choose of" in result.output
