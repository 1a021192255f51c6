"""Compaction on a file system in memory: whatever the files and whenever it dies, the records stay the same."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.event import codec
from storage.audit.topic import audit
from storage.batches import cuts, ledger
from storage.formats.avro.writer import Container
from storage.formats.envelope import event_envelope
from storage.formats.headers import read_info
from storage.layout import BUCKET
from storage.upkeep.compaction import Compacted
from tests.fakes import FakeHdfs
from tests.support.compaction import LAYOUT, cut, run, three_files
from tests.support.events import event
from tests.support.landing import UNREADABLE, Lander, files, newer_event, rows

CODECS = ("zstandard", "deflate", "null")

OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("event"), st.integers(1, 5)),
        st.tuples(st.just("newer"), st.integers(1, 3)),
        st.tuples(st.just("unreadable"), st.integers(1, 2)),
        st.tuples(st.just("kafka"), st.integers(1, 4)),
        st.tuples(st.just("lost"), st.integers(1, 4)),
        st.tuples(st.just("close"), st.sampled_from((*CODECS, "parquet"))),
    ),
    min_size=1,
    max_size=25,
)


def owner(fs: FakeHdfs, codec_: str) -> Lander:
    """Of Avro with this codec, or of Parquet."""
    return Lander(fs, LAYOUT, format_="parquet") if codec_ == "parquet" else Lander(fs, LAYOUT, codec_=codec_)  # type: ignore[arg-type]


def land(fs: FakeHdfs, operations: list[tuple[str, Any]]) -> None:
    """Does these; `close` ends a file, and the owner, whose successor has another codec, or lands Parquet."""
    lander, codec_ = Lander(fs, LAYOUT), "zstandard"
    for what, much in operations:
        # A newer schema closes the file by itself.
        if what == "close" or (what == "newer" and lander.writer.size):
            if lander.writer.end > lander.writer._first:
                lander.file()
            codec_ = much if what == "close" else codec_
            lander = owner(fs, codec_)
        if what == "event":
            lander.events(much)
        elif what == "newer":
            lander.values(*(newer_event(f"n{lander.writer.end}-{n}") for n in range(much)))
        elif what == "unreadable":
            lander.values(*[UNREADABLE] * much)
        elif what in ("kafka", "lost"):
            lander.gap(much, what)  # type: ignore[arg-type]
    lander.events(1).file()


@settings(max_examples=8, deadline=None)
@given(OPERATIONS, st.integers(500, 30_000))
def test_random_small_files_keep_exactly_their_records(operations: list[tuple[str, Any]], target: int) -> None:
    fs = FakeHdfs()
    land(fs, operations)
    before, many = rows(fs, LAYOUT), len(files(fs, LAYOUT))
    first = audit(fs, LAYOUT, deep=True)
    assert not first.findings
    cut(fs, "one", p0=first.partitions[0].end)
    done = run(fs, target_bytes=target)
    assert not done.failed
    assert rows(fs, LAYOUT) == before
    assert len(files(fs, LAYOUT)) == many - done.files_before + done.written
    second = audit(fs, LAYOUT, deep=True)
    assert not second.findings
    assert second.partitions[0].facts() | {"files": 0} == first.partitions[0].facts() | {"files": 0}
    assert second.distinct_ids == first.distinct_ids
    run(fs, now=1e9, target_bytes=target)  # the parts go
    assert rows(fs, LAYOUT) == before
    assert not audit(fs, LAYOUT, deep=True).findings


def test_blocks_are_copied_and_the_header_accounts_for_all_parts() -> None:
    fs = FakeHdfs()
    three_files(fs)
    parts = [fs.files[path][0] for path in files(fs, LAYOUT)]
    done = run(fs)
    (path,) = files(fs, LAYOUT)
    info = read_info(fs, path)
    assert (done.written, info.first, info.last, info.records) == (1, 0, 29, 23)
    assert (info.quarantined, info.gaps) == (((9, 9),), ((14, 19, "kafka"),))
    payload = parts[2][-250:-16]  # of its only block, without the sync marker
    assert payload in fs.files[path][0]


def test_the_parts_stay_for_the_grace_period_and_go_after_it() -> None:
    fs = FakeHdfs()
    three_files(fs)
    parts = files(fs, LAYOUT)
    run(fs, now=1.0)
    assert run(fs, now=60.0).deleted == 0
    assert all(path in fs.files for path in parts)
    done = run(fs, now=61.0)
    assert (done.deleted, done.written, [path in fs.files for path in parts]) == (3, 0, [False] * 3)
    assert run(fs, now=62.0).facts() == Compacted().facts()


def test_a_part_that_its_larger_file_contradicts_is_kept_and_told() -> None:
    fs = FakeHdfs()
    three_files(fs)
    parts = files(fs, LAYOUT)
    run(fs)
    content, changed = fs.files[parts[1]]
    fs.files[parts[1]] = content.replace(b'[[14, 19, "kafka"]]', b'[[14, 19, "other"]]'), changed
    done = run(fs, now=1e9)
    assert (done.kept, done.deleted) == ([parts[1]], 2)


def test_only_closed_batches_are_touched() -> None:
    fs = FakeHdfs()
    lander = Lander(fs, LAYOUT)
    for _ in range(4):
        lander.events(10).file()
    assert run(fs).groups == 0  # no cut yet
    cut(fs, "one", p0=25)
    taken = cut(fs, "two", p0=50)
    assert not ledger.current(fs, LAYOUT, taken).landed_complete
    run(fs)
    assert [path.split("+")[2:] for path in files(fs, LAYOUT)] == [
        [f"{0:019d}", f"{19:019d}.avro"],
        [f"{20:019d}", f"{29:019d}.avro"],
        [f"{30:019d}", f"{39:019d}.avro"],
    ]


def test_large_files_runs_too_short_and_holes_are_left_alone() -> None:
    fs = FakeHdfs()
    three_files(fs)
    size = len(fs.files[files(fs, LAYOUT)[1]][0])
    assert run(fs, dry_run=True, min_files=4).groups == 0
    assert run(fs, dry_run=True, small_bytes=size).groups == 0  # the middle one is large, and the first too
    dry = run(fs, dry_run=True)
    assert (dry.groups, dry.files_before, dry.written) == (1, 3, 0)
    assert len(files(fs, LAYOUT)) == 3


def test_files_of_two_buckets_are_not_joined() -> None:
    fs = FakeHdfs()
    lander = Lander(fs, LAYOUT)
    lander.gap(BUCKET - 20)
    lander.file()
    for _ in range(4):
        lander.events(10).file()
    cut(fs, "one", p0=BUCKET + 20)
    run(fs)
    assert [path.split("/")[-2] for path in files(fs, LAYOUT)] == ["b=0000000000", "b=0000000001"]
    assert not audit(fs, LAYOUT, deep=True).findings


def test_a_part_that_is_damaged_spares_the_others_and_loses_nothing() -> None:
    fs = FakeHdfs()
    three_files(fs)
    for n in range(2):
        Lander(fs, LAYOUT, partition=1).events(5 + n).file()
    cut(fs, "two", p0=30, p1=11)
    bad = files(fs, LAYOUT)[1]
    content, changed = fs.files[bad]
    fs.files[bad] = content[:-20], changed
    done = run(fs)
    assert (done.written, len(done.failed)) == (1, 1)
    assert bad in next(iter(done.failed.values()))
    assert len(files(fs, LAYOUT)) == 3
    assert not any("_" in name[:1] for name in fs.names(f"{LAYOUT.raw(0)}/b=0000000000"))


def test_a_file_that_does_not_read_back_as_it_was_written_is_not_published() -> None:
    fs = FakeHdfs()
    three_files(fs)
    before = rows(fs, LAYOUT)
    create = fs.create

    def forgetful(path: str, chunks: Iterable[bytes], create_parents: bool = False) -> int:
        kept = list(chunks)
        return create(path, kept[:2] + kept[3:], create_parents)  # without its second block

    fs.create = forgetful  # type: ignore[method-assign]
    done = run(fs)
    assert "read back, it is not what was written: 19 of 23 records" in next(iter(done.failed.values()))
    assert (done.written, len(files(fs, LAYOUT)), rows(fs, LAYOUT)) == (0, 3, before)


def test_a_part_with_fewer_records_than_its_header_says_is_not_joined() -> None:
    fs = FakeHdfs()
    three_files(fs)
    middle = files(fs, LAYOUT)[1]
    content, changed = fs.files[middle]
    header = Container(event_envelope(codec.SCHEMA), 0, "zstandard").file(read_info(fs, middle))[0]
    fs.files[middle] = header, changed
    assert "0 records, but its header says 4" in next(iter(run(fs).failed.values()))
    fs.files[middle] = content, changed
    assert run(fs).written == 1


class Killed(BaseException):
    """kill -9: nothing is tidied up."""


@pytest.mark.parametrize("step", range(9))
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_killed_at_any_step_it_leaves_each_record_once_and_the_next_run_ends_the_work(step: int, after: bool) -> None:
    fs = FakeHdfs()
    three_files(fs)
    before = rows(fs, LAYOUT)
    steps = itertools.count()

    def kill(verb: str, path: str) -> None:
        if next(steps) >= step:  # whatever it does to tidy up fails, too
            raise Killed

    fs.before = kill
    if after:
        fs.before = _once_more(fs, kill)
    with contextlib.suppress(Killed):
        run(fs, now=1e9)
    fs.before = lambda verb, path: None
    assert rows(fs, LAYOUT) == before
    assert not audit(fs, LAYOUT, deep=True).findings
    run(fs, now=1e9)
    run(fs, now=1e9)
    assert rows(fs, LAYOUT) == before
    assert len(fs.names(f"{LAYOUT.raw(0)}/b=0000000000")) == 1
    (one,) = cuts.all_cuts(fs, LAYOUT)
    assert ledger.load(fs, LAYOUT, one).total("files") == 1
    assert not audit(fs, LAYOUT, deep=True).findings


def _once_more(fs: FakeHdfs, kill: Callable[[str, str], None]) -> Callable[[str, str], None]:
    """Lets a delete that is to fail happen first."""

    def step(verb: str, path: str) -> None:
        try:
            kill(verb, path)
        except Killed:
            if verb == "delete" and path in fs.files:
                fs._remove(path)
            raise

    return step


def test_of_two_compactions_one_publishes_and_the_other_deletes_its_own() -> None:
    fs = FakeHdfs()
    three_files(fs)
    before = rows(fs, LAYOUT)
    inner: list[Compacted] = []

    def other(verb: str, path: str) -> None:
        if verb == "rename" and path.endswith(".rewrite.tmp"):
            fs.before = lambda verb, path: None
            inner.append(run(fs))

    fs.before = other
    outer = run(fs)
    assert (outer.written, outer.lost_races, inner[0].written) == (0, 1, 1)
    assert rows(fs, LAYOUT) == before
    assert not [name for name in fs.names(f"{LAYOUT.raw(0)}/b=0000000000") if name.startswith("_")]


def test_the_ledger_changes_in_its_number_of_files_alone() -> None:
    fs = FakeHdfs()
    three_files(fs)
    (one,) = cuts.all_cuts(fs, LAYOUT)
    recorded = ledger.record_publish(fs, LAYOUT, one, {0: (23, 0, 0)})
    assert recorded.total("files") == 3
    run(fs)
    found = ledger.load(fs, LAYOUT, one)
    assert found.total("files") == 1
    assert found.published_balanced
    assert {k: v for k, v in found.facts().items() if k != "landed_files"} == {
        k: v for k, v in recorded.facts().items() if k != "landed_files"
    }


def test_a_plain_topic_is_read_whole() -> None:
    fs = FakeHdfs()
    lander = Lander(fs, LAYOUT, plain=True)
    lander.values(b"one", None).file()
    lander.values(event("x")).file()
    cut(fs, "one", p0=3)
    before = rows(fs, LAYOUT)
    assert [body for *_, body in before] == [(b"key", b"one"), (b"key", None), (b"key", event("x"))]
    assert run(fs).written == 1
    assert rows(fs, LAYOUT) == before
    assert not audit(fs, LAYOUT, deep=True).findings
