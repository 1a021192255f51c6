"""The gates' arithmetic; the counting itself is tested on real files."""

from __future__ import annotations

from dataclasses import replace

import pytest

from storage.batches.ledger import BatchLedger, PartitionLedger
from storage.errors import BatchError

ROW = PartitionLedger(0, 10, 30, landed=12, quarantined=3, explained=4, lost=1, files=2)


def batch(*rows: PartitionLedger) -> BatchLedger:
    return BatchLedger("one", 1, "clicks", rows)


def test_the_landing_gate_balances_when_each_offset_is_accounted_for_once() -> None:
    found = batch(ROW, PartitionLedger(1, 5, 5))
    assert found.landed_complete and found.missing == {}
    assert found.appended == 16  # twenty offsets, of which four never were a record
    assert found.facts()["lost"] == 1


@pytest.mark.parametrize("landed", [11, 13])
def test_an_offset_missing_or_counted_twice_unbalances_it(landed: int) -> None:
    found = batch(replace(ROW, landed=landed), PartitionLedger(1, 5, 5))
    assert not found.landed_complete
    assert found.missing == {0: 12 - landed}


def test_a_surplus_here_does_not_make_up_for_a_lack_there() -> None:
    found = batch(replace(ROW, landed=11), replace(ROW, partition=1, landed=13))
    assert not found.landed_complete


def test_the_publish_gate_is_closed_before_curation_and_judges_each_partition() -> None:
    assert not batch(ROW).curated_yet and not batch(ROW).published_balanced
    assert batch(ROW).facts()["curated"] is None
    good = replace(ROW, curated=9, duplicates=2, invalid=1)
    assert batch(good).published_balanced
    more, less = replace(good, curated=10), replace(good, partition=1, curated=8)
    assert batch(more, less).curated_yet and not batch(more, less).published_balanced


def test_a_batch_that_never_landed_whole_is_not_published() -> None:
    row = replace(ROW, landed=11, curated=11, duplicates=0, invalid=0)
    assert row.unpublished == 0
    assert not batch(row).published_balanced


def test_a_ledger_survives_json() -> None:
    found = batch(replace(ROW, curated=9, duplicates=2, invalid=1), PartitionLedger(1, 5, 5))
    assert BatchLedger.from_json(found.to_json()) == found


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"name": "x", "partitions": [{}]}'])
def test_what_is_no_ledger_is_refused(data: bytes) -> None:
    with pytest.raises(BatchError, match="not a ledger"):
        BatchLedger.from_json(data)
