"""The check with which each of these tests ends: what was produced is on HDFS, once, in order, and accounted for."""

from __future__ import annotations

from storage.audit.topic import audit
from tests.support.landing import Landing
from tests.support.sinks import Sent


def proved(place: Landing, sent: Sent) -> str:
    """Raises AssertionError for the first contradiction; else what was found, for people."""
    audited(place, len(sent))
    files = 0
    for partition, ids in sent.items():
        expected = [(offset, id_) for offset, id_ in enumerate(ids) if id_ is not None]
        found = place.messages(partition)
        assert found == expected, f"p={partition}: {_difference(found, expected)}"
        aside = place.rows(place.layout, partition, place.layout.quarantine(partition))
        excused = {offset for offset, id_ in enumerate(ids) if id_ is None}
        assert excused <= {row["offset"] for row in aside}, f"p={partition}: not all of {excused} is in quarantine"
        files += len(place.files(place.layout, partition))
    return f"{sum(map(len, sent.values()))} records in {files} files, each once"


def audited(place: Landing, partitions: int) -> None:
    """What `clickstream audit --deep` proves, and that no partition has two owners."""
    found = audit(place.fs, place.layout, deep=True)
    assert not found.violations, found.findings
    for partition in range(partitions):
        live = [name for name in place.fs.names(place.layout.epochs(partition)) if name.startswith("e=")]
        assert len(live) <= 1, f"p={partition} has the live epochs {live}"


def _difference(found: list[tuple[int, str]], expected: list[tuple[int, str]]) -> str:
    missing, more = sorted(set(expected) - set(found))[:5], sorted(set(found) - set(expected))[:5]
    return f"{len(found)} of {len(expected)}; missing {missing}, not expected {more}"
