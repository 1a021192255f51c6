"""Of several applications of one job and batch the newest goes on alone."""

from __future__ import annotations

import pytest

from processing.errors import Superseded
from processing.runtime.yarn_lock import end_predecessors
from tests.fakes import FakeResourceManager

OLD, OWN, NEW = "application_1700000000000_9999", "application_1700000000000_10000", "application_1700000000001_0001"
TAG = "clickstream-job-0"


def test_older_ones_are_ended_and_awaited_whether_they_run_or_wait_for_room() -> None:
    waiting = "application_1600000000000_0001"
    manager = FakeResourceManager({OLD: "RUNNING", waiting: "ACCEPTED", OWN: "RUNNING"}, lag=1)
    assert end_predecessors(manager, OWN, TAG, poll=0) == [OLD, waiting]
    assert manager.states == {OLD: "KILLED", waiting: "KILLED", OWN: "RUNNING"}


def test_those_that_have_ended_are_left_alone() -> None:
    manager = FakeResourceManager({OLD: "FINISHED", NEW: "FAILED", OWN: "RUNNING"})
    assert end_predecessors(manager, OWN, TAG) == []
    assert not manager.killed


def test_of_two_that_start_at_once_only_the_newer_goes_on() -> None:
    manager = FakeResourceManager({OLD: "RUNNING", OWN: "RUNNING", NEW: "ACCEPTED"})
    with pytest.raises(Superseded, match=f"{OWN} gives way to {NEW}"):
        end_predecessors(manager, OWN, TAG)
    assert not manager.killed
    assert end_predecessors(manager, NEW, TAG, poll=0) == [OLD, OWN]


def test_one_that_does_not_end_is_named() -> None:
    manager = FakeResourceManager({OLD: "RUNNING", OWN: "RUNNING"}, lag=float("inf"))
    with pytest.raises(TimeoutError, match=OLD):
        end_predecessors(manager, OWN, TAG, patience=0.0)
