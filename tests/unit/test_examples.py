"""What bench classify makes of anybody's table."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from processing.bench.clicks.examples import read_examples
from processing.bench.commands import bench
from processing.bench.files import FileError
from processing.bench.splits import stratified_folds

TABLE = """id,length,color,size,weekend,empty,day,bought
7,1.5,red,1,true,,2026-01-01,Yes
8,2.5,,2,false,,2026-01-02,no
9,3.5,blue,,true,,2026-01-02,no
6,4.5,red,2,true,,2026-01-02,no
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "table.csv.gz"
    path.write_bytes(gzip.compress(TABLE.encode()))
    return path


def test_types_are_told_and_useless_columns_named(file: Path) -> None:
    examples = read_examples(file, "bought", "yes")
    assert examples.labels.tolist() == [1, 0, 0, 0]
    assert examples.numeric == ["length", "size", "weekend", "day"] and examples.categorical == ["color"]
    assert examples.left_out == {"id": "as many values as rows", "empty": "no values"}
    assert examples.table["size"].to_pylist() == [1.0, 2.0, None, 2.0]
    assert examples.table["weekend"].to_pylist() == [1.0, 0.0, 1.0, 1.0]


def test_numbers_may_be_names_and_columns_ignored(file: Path) -> None:
    examples = read_examples(file, "bought", "no", ignored=["length"], categorical=["size"])
    assert examples.categorical == ["color", "size"] and examples.labels.tolist() == [0, 1, 1, 1]
    assert examples.table["size"].to_pylist() == ["1", "2", None, "2"]
    assert examples.left_out["length"] == "ignored"


def test_names_that_look_like_numbers_stay_apart(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("shop,price,bought\n007,1,yes\n7,2,no\n7,3,no\n,4,no\n")
    assert read_examples(path, "bought", "yes", categorical=["shop"]).table["shop"].to_pylist() == [
        "007",
        "7",
        "7",
        None,
    ]


@pytest.mark.parametrize(
    ("label", "positive", "reason"),
    [
        ("sold", "yes", "no column 'sold' among id, length"),
        ("bought", "maybe", "no row is 'maybe'; it has no, yes"),
        ("weekend", "", "column 'weekend': no row is ''"),
        ("color", "red", "column 'color' has 1 empty values"),
    ],
)
def test_a_label_that_is_none_is_named(tmp_path: Path, label: str, positive: str, reason: str) -> None:
    path = tmp_path / "table.jsonl"
    lines = ['{"id":1,"length":2,"color":"red","bought":"no","weekend":true}']
    lines += ['{"id":1,"length":2,"color":null,"bought":"yes","weekend":false}']
    path.write_text("\n".join(lines))
    with pytest.raises(FileError, match=rf"table\.jsonl: .*{reason}"):
        read_examples(path, label, positive)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--without", "color,size"], "--without: color,size: not among the columns"),
        (["--without", "id"], "--without: id: not among the columns"),
        (["--folds", "2"], "--folds: 2 need 4 rows of each kind; 1 of 4 are positive"),
        (["--algorithms", "svm"], "--algorithms: svm: choose of gbt"),
    ],
)
def test_bad_arguments_are_named(file: Path, arguments: list[str], reason: str) -> None:
    result = CliRunner().invoke(bench, ["classify", str(file), "--label", "bought", "--positive", "yes", *arguments])
    assert result.exit_code == 2 and reason in result.output


def test_folds_share_the_labels_alike() -> None:
    labels = np.repeat([0, 1], [90, 10])
    folds = stratified_folds(labels, 5, seed=1)
    assert np.bincount(folds).tolist() == [20] * 5 and np.bincount(folds[labels == 1]).tolist() == [2] * 5
    assert (folds != stratified_folds(labels, 5, seed=2)).any()
