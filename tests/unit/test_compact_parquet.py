"""Compaction of Parquet: the same rows in larger files, and what can't be joined spares the rest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from storage.audit.topic import audit
from storage.formats.headers import read_info
from tests.fakes import FakeHdfs
from tests.support.compaction import LAYOUT, cut, run
from tests.support.landing import UNREADABLE, Lander, files, newer_event, rows


def test_parquet_becomes_larger_parquet_with_the_same_rows() -> None:
    fs = FakeHdfs()
    lander = Lander(fs, LAYOUT, format_="parquet")
    lander.events(9).values(UNREADABLE).file()
    lander.events(4).gap(6).file()
    lander.values(newer_event("a")).file()  # of other columns: nothing that it could be joined with
    lander = Lander(fs, LAYOUT, format_="parquet")
    lander.events(3).file()
    lander.events(2).file()
    cut(fs, "one", p0=26)
    before = rows(fs, LAYOUT)
    done = run(fs)
    assert (done.groups, done.written, done.failed) == (2, 2, {})
    assert rows(fs, LAYOUT) == before
    first, _, last = (read_info(fs, path) for path in files(fs, LAYOUT))
    assert (first.records, first.quarantined, first.gaps) == (13, ((9, 9),), ((14, 19, "kafka"),))
    assert (last.first, last.last, last.records) == (21, 25, 5)
    assert not audit(fs, LAYOUT, deep=True).findings


def test_parquet_that_does_not_read_back_as_it_was_written_is_not_published() -> None:
    fs = FakeHdfs()
    lander = Lander(fs, LAYOUT, format_="parquet")
    lander.events(5).file()
    lander.events(5).file()
    cut(fs, "one", p0=10)
    many, create = files(fs, LAYOUT), fs.create

    def short(path: str, chunks: Iterable[bytes], create_parents: bool = False) -> int:
        if path.endswith(".rewrite.tmp"):
            chunks = [fs.files[many[0]][0]]
        return create(path, chunks, create_parents)

    fs.create = short  # type: ignore[method-assign]
    done = run(fs)
    assert ["read back" in reason for reason in done.failed.values()] == [True]
    assert files(fs, LAYOUT) == many
    assert not [path for path in fs.files if path.endswith(".tmp")]


def test_parquet_that_is_damaged_spares_other_partitions() -> None:
    fs = FakeHdfs()
    for partition in (0, 1):
        lander = Lander(fs, LAYOUT, partition, format_="parquet")
        lander.events(5).file()
        lander.events(5).file()
    cut(fs, "one", p0=10, p1=10)
    damaged = files(fs, LAYOUT)[0]
    fs.files[damaged] = (b"PAR1", *fs.files[damaged][1:])
    done = run(fs)
    assert (done.written, len(done.failed)) == (1, 1)
    assert damaged in next(iter(done.failed.values()))
    assert len(files(fs, LAYOUT, 1)) == 1


def test_a_part_is_opened_for_its_footer_once_and_for_its_rows_twice() -> None:
    fs = FakeHdfs()
    lander = Lander(fs, LAYOUT, format_="parquet")
    parts = [lander.events(5).file() for _ in range(3)]
    cut(fs, "one", p0=15)
    fs.reads.clear()
    assert run(fs).written == 1
    read = Counter(fs.reads)
    assert [read[part] for part in parts] == [3] * 3
