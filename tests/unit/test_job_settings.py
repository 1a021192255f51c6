"""A wrong algorithm's name is refused like any other wrong setting: before a job reads or starts anything."""

from __future__ import annotations

import importlib

import pytest


def test_an_unknown_recommender_is_one_line_that_names_the_setting_and_what_there_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CLICKSTREAM_PROCESSING__SEARCH_ALGORITHMS", '["als", "svd"]')
    job = importlib.import_module("processing.jobs.train_recommender")
    assert job.main(["--batch", "any"]) == 2
    out, err = capsys.readouterr()
    assert not out and err.count("\n") == 1
    assert err.startswith("train_recommender: CLICKSTREAM_PROCESSING__SEARCH_ALGORITHMS__1 ")
    assert "there are als, ease, " in err and "not 'svd'" in err
