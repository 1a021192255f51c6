"""clickstream bench ratings: any file's columns, honest lists, planted truth."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner
from pyarrow import parquet as pq

from processing.bench.commands import bench
from processing.bench.files import FileError, Ratings, read_ratings
from processing.training.metrics import average_precision_at_k, bootstrap_ratio, reciprocal_rank_at_k
from tests.support.ratings import planted

ROWS = [("u1", "a", 4.0, 10.0), ("u2", "b", 3.0, 20.0), ("u1", "b", 5.0, 30.0)]


def written(folder: Path, name: str) -> Path:
    path = folder / name
    lines = [f"{u},{i},{r},{t}" for u, i, r, t in ROWS]
    if name.endswith(".parquet"):
        columns = zip(*ROWS, strict=True)
        pq.write_table(pa.table(dict(zip(("user_id", "item_id", "rating", "timestamp"), columns, strict=True))), path)
        return path
    if "jsonl" in name:
        text = "\n".join(json.dumps(dict(zip(("user", "item", "rating", "time"), row, strict=True))) for row in ROWS)
    elif "tsv" in name:
        text = "\n".join(["user_id:token,item_id:token,rating:float,timestamp:float", *lines]).replace(",", "\t")
    else:
        text = "\n".join(["userId,itemId,rating,timestamp", *lines])
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return path


def rows(ratings: Ratings) -> list[tuple[str, str, float, float]]:
    assert ratings.times is not None
    columns = zip(ratings.users, ratings.items, ratings.values, ratings.times, strict=True)
    return [(ratings.user_ids[u], ratings.item_ids[i], float(r), float(t)) for u, i, r, t in columns]


@pytest.mark.parametrize("name", ["r.csv", "r.csv.gz", "r.tsv", "r.inter.tsv.gz", "r.jsonl", "r.jsonl.gz", "r.parquet"])
def test_ratings_are_read_whatever_the_format(tmp_path: Path, name: str) -> None:
    [ratings] = read_ratings(written(tmp_path, name))
    assert rows(ratings) == ROWS


ODD_IDS = (
    "007",
    "7",
    "12345678901234567890",
    "12345678901234567891",
    "1e5",
    "100000",
    "true",
    "NA",
    "2026-01-01",
    "1.0",
)


@pytest.mark.parametrize("name", ["r.csv", "r.tsv.gz", "r.jsonl", "r.numbers.jsonl.gz", "r.json", "r.parquet"])
def test_ids_stay_as_they_are_written(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name.endswith("parquet"):
        columns: dict[str, list[object]] = {"user": [*ODD_IDS], "item": [*ODD_IDS], "rating": [1.0] * len(ODD_IDS)}
        pq.write_table(pa.table(columns), path)
    elif "json" in name:
        bare = ODD_IDS[1:7] if "numbers" in name else ()  # as numbers, among texts
        ids = [each if each in bare else f'"{each}"' for each in ODD_IDS]
        data = "\n".join(f'{{"user": {each}, "item": {each}, "rating": 1}}' for each in ids).encode()
        path.write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    else:
        between = "\t" if "tsv" in name else ","
        data = "\n".join(
            between.join(row) for row in [("user", "item", "rating"), *((i, i, "1") for i in ODD_IDS)]
        ).encode()
        path.write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    other = tmp_path / "other.csv"
    other.write_text("user,item,rating\n7,7,2\n")
    ratings, numbers = read_ratings(path, other)
    assert [ratings.user_ids[user] for user in ratings.users] == list(ODD_IDS)
    assert [ratings.item_ids[item] for item in ratings.items] == list(ODD_IDS)
    assert numbers.items.tolist() == [ratings.item_ids.index("7")], "a number in one file is the text of another"


@pytest.mark.parametrize("name", ["r.csv", "r.jsonl", "r.parquet"])
def test_an_id_that_is_missing_is_told(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name.endswith("parquet"):
        pq.write_table(pa.table({"user": [7, None], "item": ["a", "b"], "rating": [1, 2]}), path)
    elif name.endswith("jsonl"):
        path.write_text('{"user": 7, "item": "a", "rating": 1}\n{"user": null, "item": "b", "rating": 2}')
    else:
        path.write_text("user,item,rating\n7,a,1\n,b,2\n")
    with pytest.raises(FileError, match="column 'user' has 1 empty values"):
        read_ratings(path)


def test_two_files_share_their_ids(tmp_path: Path) -> None:
    other = tmp_path / "other.csv"
    other.write_text("user,item,rating,timestamp\nu9,b,1,5\n")
    train, test = read_ratings(written(tmp_path, "r.csv"), other)
    assert rows(train) == ROWS and rows(test) == [("u9", "b", 1.0, 5.0)]
    assert train.item_ids == test.item_ids


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("user,item\nu,i\n", "no column 'rating' among user, item"),
        ("user,item,rating\nu,i,good\n", "column 'rating': .*good"),
        ("user,item,rating\nu,i,\nu,j,3\n", "column 'rating' has 1 empty values"),
        ("user,item,rating\n", "no rows"),
        ("user,item,rating\nu,i\n", "3 columns"),
        ("user,item,rating,rating\nu,i,1,2\n", "a column is there twice"),
    ],
)
def test_a_bad_file_is_named_with_what_is_wrong(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(text)
    with pytest.raises(FileError, match=rf"bad\.csv: .*{reason}"):
        read_ratings(path)


def test_a_column_of_lists_is_no_column_of_numbers(tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text('{"user": "u", "item": "i", "rating": [1]}')
    with pytest.raises(FileError, match=r"bad\.jsonl: column 'rating'"):
        read_ratings(path)


WITHOUT_SPARK = ("--algorithms", "popularity,biases")


def run(*arguments: object) -> dict[str, dict[str, float]]:
    result = CliRunner().invoke(bench, ["ratings", *WITHOUT_SPARK, *map(str, arguments), "--json"])
    assert result.exit_code == 0, result.output
    facts: dict[str, dict[str, float]] = json.loads(result.stdout)["results"]
    return facts


def test_ratings_of_whom_or_what_train_does_not_know_are_counted_and_left_out(tmp_path: Path) -> None:
    train, test = tmp_path / "train.csv", tmp_path / "test.csv"
    train.write_text("user,item,rating\nu,a,4\nu,b,4\nv,a,2\nv,b,2\n")
    test.write_text("user,item,rating\nu,a,4\nv,b,1\nw,a,1\nu,c,1\n")
    facts = run("--train", train, "--test", test)
    assert (facts["biases"]["predicted"], facts["biases"]["cold"]) == (2, 2)
    # The mean is 3, users are 1 and -1 off; the rating that draws least to 0 does best inside train: 2 / (2 + 1).
    off = np.array([3 + 2 / 3 - 4, 3 - 2 / 3 - 1])
    assert facts["biases"]["rmse"] == pytest.approx(np.sqrt((off**2).mean()), abs=1e-5)
    assert facts["biases"]["mae"] == pytest.approx(np.abs(off).mean(), abs=1e-5)
    assert "rmse" not in facts["popularity"]


def test_a_mean_over_all_rows_weighs_users_by_their_rows() -> None:
    estimate = bootstrap_ratio([10.0, 0.0, 7.0], [10, 90, 0])
    assert estimate.mean == 0.1 and estimate.interval == [0, 1]
    assert bootstrap_ratio([], []).mean is None


def test_folds_measure_each_user_in_each_fold_and_count_each_once(tmp_path: Path) -> None:
    facts = run("--file", planted(tmp_path, 40), "--split", "kfold:3", "--algorithms", "popularity")
    assert len(facts["popularity"]["parameters"]) == 3  # type: ignore[arg-type]
    assert 34 < facts["popularity"]["users"] <= 40  # each once, whose parts hang together


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--file", "FILE", "--split", "time:0.8"], "--split: a split by time needs a column timestamp"),
        (["--file", "FILE", "--split", "half"], "--split: 'half' is none of"),
        (["--file", "FILE", "--algorithms", "als2"], "--algorithms: als2: choose of"),
        (["--train", "FILE"], "give --file, or both --train and --test"),
    ],
)
def test_bad_arguments_are_named(tmp_path: Path, arguments: list[str], reason: str) -> None:
    file = str(planted(tmp_path, 4))
    result = CliRunner().invoke(bench, ["ratings", *(file if one == "FILE" else one for one in arguments)])
    assert result.exit_code == 2 and reason in result.output


def test_average_precision_and_reciprocal_rank() -> None:
    assert average_precision_at_k(["a", "x", "b"], {"a", "b", "c"}, 3) == pytest.approx((1 + 2 / 3) / 3)
    assert average_precision_at_k(["x"], {"a"}, 1) == 0
    assert reciprocal_rank_at_k(["x", "a"], {"a"}, 2) == 0.5
    assert reciprocal_rank_at_k(["x", "a"], {"a"}, 1) == 0
