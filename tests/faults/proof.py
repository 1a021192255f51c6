"""The check with which each of these tests ends: what was produced is on HDFS, once, in order, and accounted for."""

from __future__ import annotations

import io
from itertools import chain

import fastavro

from storage.layout import visible
from storage.ledger import file_info
from tests.faults.sinks import Sent
from tests.integration.landing import Landing


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
    """Ranges follow each other from 0, headers account for each offset, every record reads and is where it belongs."""
    for partition in range(partitions):
        end, folder = 0, f"{place.layout.raw(partition)}/b=0000000000"
        names = place.fs.names(folder)
        assert [range_.name for range_ in visible(names)] == names, f"{folder}: something is hidden or no file of ours"
        for range_ in visible(names):
            path = f"{folder}/{range_.name}"
            assert range_.first == end, f"{path} does not follow offset {end - 1}"
            end = range_.last + 1
            info = file_info(place.fs, path)
            gaps = [(first, last) for first, last, _ in info.gaps]
            elsewhere = [n for first, last in chain(info.quarantined, gaps) for n in range(first, last + 1)]
            rows = list(fastavro.reader(io.BytesIO(place.fs.read(path))))
            assert {row["partition"] for row in rows} <= {partition}, path
            assert len(rows) == info.records, path
            offsets = [row["offset"] for row in rows]
            assert sorted(offsets + elsewhere) == list(range(range_.first, end)), path
            assert (info.partition, info.first, info.last) == (partition, range_.first, range_.last), path
    for partition in range(partitions):
        live = [name for name in place.fs.names(place.layout.epochs(partition)) if name.startswith("e=")]
        assert len(live) <= 1, f"p={partition} has the live epochs {live}"


def _difference(found: list[tuple[int, str]], expected: list[tuple[int, str]]) -> str:
    missing, more = sorted(set(expected) - set(found))[:5], sorted(set(found) - set(expected))[:5]
    return f"{len(found)} of {len(expected)}; missing {missing}, not expected {more}"
