"""Ledgers written anew from files alone, and what is past its retention; on a file system in memory."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cache

import pytest

from infra.settings.jobs import Compaction
from storage.audit.topic import audit
from storage.batches import cuts, ledger
from storage.batches.cuts import Cut
from storage.batches.history import rebuild, refresh_all
from storage.errors import BatchError
from storage.formats.schemas import SchemaRegistry
from storage.landed import position
from storage.layout import Layout
from storage.upkeep.compaction import compact
from storage.upkeep.redriving import Redriven, redrive
from storage.upkeep.retention import Expired, expire, expire_quarantine, expire_unbatched
from tests.fakes import FakeHdfs
from tests.support.landing import UNREADABLE, Lander, files

LAYOUT = Layout("/root", "clicks")
LATER = datetime.now(UTC) + timedelta(days=10)
SISTER = f"{LAYOUT.quarantine(0)}/{LAYOUT.file(0, 0, 9, 'avro')}"


@pytest.fixture
def fs() -> FakeHdfs:
    """Four batches of two partitions in files over the cuts; the first two are curated, the last has not landed."""
    return four_batches().copy()


@cache
def four_batches() -> FakeHdfs:
    fs = FakeHdfs()
    for partition in (0, 1):
        lander = Lander(fs, LAYOUT, partition)
        lander.events(8).values(UNREADABLE, UNREADABLE).file()
        lander.events(5).gap(3).gap(2, "lost").file()
        lander.events(10).file()
        lander.events(10).file()
    for name, end in (("one", 15), ("two", 25), ("three", 40), ("four", 50)):
        batch = cuts.take(fs, LAYOUT, name, lambda end=end: {0: end, 1: end})  # type: ignore[misc]
        ledger.record_landing(fs, LAYOUT, ledger.current(fs, LAYOUT, batch))
        if name in ("one", "two"):
            curate(fs, batch)
    return fs


def curate(fs: FakeHdfs, batch: Cut, invalid: int = 0) -> None:
    landed = {p.partition: p.landed for p in ledger.current(fs, LAYOUT, batch).partitions}
    ledger.record_publish(fs, LAYOUT, batch, {p: (n - 1, 1, invalid) for p, n in landed.items()})


def cut(fs: FakeHdfs, name: str) -> Cut:
    return cuts.get(fs, LAYOUT, name)


def ledgers(fs: FakeHdfs) -> dict[str, bytes]:
    return {path: data for path, (data, _) in fs.files.items() if path.startswith(f"{LAYOUT.ledger}/")}


def wipe_ledgers(fs: FakeHdfs) -> None:
    for path in ledgers(fs):
        if "/published/" not in path:
            fs._remove(path)


def shrink(fs: FakeHdfs) -> None:
    """Compacts, and deletes the parts."""
    rules = Compaction(min_files=2, grace_seconds=0)
    assert compact(fs, LAYOUT, rules, "zstandard", lambda: 1e9).written


def test_a_rebuild_from_nothing_writes_the_same_bytes(fs: FakeHdfs) -> None:
    before = ledgers(fs)
    wipe_ledgers(fs)
    done = rebuild(fs, LAYOUT)
    assert (done.batches, done.written, done.same, done.incomplete) == (4, 3, 1, ["four"])
    assert ledgers(fs) == before
    assert rebuild(fs, LAYOUT).written == 0


def test_all_batches_at_once_are_what_each_is_alone_and_what_has_landed_is_recorded(fs: FakeHdfs) -> None:
    recorded = ledgers(fs)
    for names in ([], ["two"], ["one", "three", "four"], ["one", "two", "three", "four"]):
        for name in names:
            fs.files.pop(ledger.path(LAYOUT, name), None)
        alone = [ledger.current(fs, LAYOUT, one) for one in cuts.all_cuts(fs, LAYOUT)]
        assert refresh_all(fs, LAYOUT) == alone
        assert ledgers(fs) == recorded


def test_a_rebuild_after_compaction_writes_what_compaction_has_written(fs: FakeHdfs) -> None:
    shrink(fs)
    before = ledgers(fs)
    assert ledger.load(fs, LAYOUT, cut(fs, "two")).total("files") == 2
    wipe_ledgers(fs)
    rebuild(fs, LAYOUT)
    assert ledgers(fs) == before


def test_a_rebuild_makes_true_what_a_ledger_says_wrongly(fs: FakeHdfs) -> None:
    before = ledgers(fs)
    place = ledger.path(LAYOUT, "one")
    fs._put(place, fs.files[place][0].replace(b'"landed": 13', b'"landed": 3'), 0)
    assert rebuild(fs, LAYOUT).written == 1
    assert ledgers(fs) == before


def test_publish_terms_that_only_an_old_ledger_knows_are_not_lost(fs: FakeHdfs) -> None:
    before = ledgers(fs)
    for path in before:
        if "/published/" in path:
            fs._remove(path)
    assert rebuild(fs, LAYOUT).written == 0
    assert ledger.load(fs, LAYOUT, cut(fs, "one")).published_balanced


def test_a_complete_batch_is_not_counted_again(fs: FakeHdfs) -> None:
    fs.reads.clear()
    assert ledger.current(fs, LAYOUT, cut(fs, "two")).published_balanced
    assert not [path for path in fs.reads if path.endswith(".avro")]
    fs.reads.clear()
    assert ledger.current(fs, LAYOUT, cut(fs, "four")).missing == {0: 10, 1: 10}


def test_curation_that_records_while_the_landing_is_written_is_not_overwritten(fs: FakeHdfs) -> None:
    three = cut(fs, "three")
    fs._remove(ledger.path(LAYOUT, "three"))
    found = ledger.current(fs, LAYOUT, three)

    def meanwhile(verb: str, path: str) -> None:
        if verb == "rename" and "three" in path:
            fs.before = lambda verb, path: None
            curate(fs, three)

    fs.before = meanwhile
    ledger.record_landing(fs, LAYOUT, found)
    assert ledger.load(fs, LAYOUT, three).published_balanced


def test_retention_takes_whole_files_of_whole_batches_and_says_where_raw_begins(fs: FakeHdfs) -> None:
    curate(fs, cut(fs, "three"), invalid=1)  # does not balance
    dry = expire(fs, LAYOUT, 5, LATER, dry_run=True)
    assert (dry.batches, dry.refused, len(files(fs, LAYOUT))) == (["one", "two"], "three", 4)
    done = expire(fs, LAYOUT, 5, LATER)
    assert (done.batches, done.refused) == (["one", "two"], "three")
    # The batch two ends at 25, within a file, which stays.
    assert [path.split("+")[2] for path in files(fs, LAYOUT)] == [f"{20:019d}", f"{30:019d}"]
    assert cuts.tree_start(fs, LAYOUT) == cuts.TreeStart(2, {0: 25, 1: 25})
    found = audit(fs, LAYOUT, deep=True)
    assert (found.violations, found.partitions[0].first, found.partitions[0].landed) == (0, 25, 15)
    assert ledger.current(fs, LAYOUT, cut(fs, "one")).published_balanced
    with pytest.raises(BatchError, match="raw files of batch one are gone"):
        cuts.files(fs, LAYOUT, cut(fs, "one"))


def test_a_batch_without_balance_keeps_its_files_and_all_after_it(fs: FakeHdfs) -> None:
    curate(fs, cut(fs, "one"), invalid=1)
    done = expire(fs, LAYOUT, 5, LATER)
    assert (done.batches, done.files, done.refused) == ([], 0, "one")


@pytest.mark.parametrize(("days", "now"), [(0, LATER), (20, LATER)])
def test_nothing_goes_before_its_time_or_without_the_setting(fs: FakeHdfs, days: float, now: datetime) -> None:
    for kind in (expire, expire_quarantine):
        assert kind(fs, LAYOUT, days, now) == Expired()


def test_the_newest_file_stays_since_it_tells_the_sink_where_to_go_on(fs: FakeHdfs) -> None:
    for name in ("three", "four"):
        if name == "four":
            for partition in (0, 1):
                Lander(fs, LAYOUT, partition).events(10).file()
        curate(fs, cut(fs, name))
    done = expire(fs, LAYOUT, 5, LATER)
    assert done.batches == ["one", "two", "three", "four"]
    assert [len(files(fs, LAYOUT, p)) for p in (0, 1)] == [1, 1]
    assert position(fs, LAYOUT, 0) == 50
    assert not audit(fs, LAYOUT, deep=True).findings
    Lander(fs, LAYOUT).events(10).file()
    assert expire(fs, LAYOUT, 5, LATER).files == 1  # now it can go
    assert not audit(fs, LAYOUT, deep=True).findings


def test_a_topic_without_batches_is_joined_and_goes_by_the_age_of_its_files() -> None:
    fs, layout = FakeHdfs(), Layout("/root", "clicks.rejected")
    lander = Lander(fs, layout, plain=True)
    for _ in range(4):
        lander.values(b"1", b"2").file()
    rules = Compaction(min_files=2, grace_seconds=60)
    assert compact(fs, layout, rules, "zstandard", lambda: 1e12).written == 0  # nothing says that anything is closed
    assert compact(fs, layout, rules, "zstandard", lambda: 1e12, batched=False).written == 1
    assert len(files(fs, layout)) == 1 and position(fs, layout, 0) == 8

    now = datetime.fromtimestamp(fs.now / 1000, UTC)
    lander.values(b"3").file()
    fs.now += 86_400_000
    lander.values(b"4").file()
    assert expire_unbatched(fs, layout, 0.0, now + timedelta(days=9)).files == 0
    assert expire_unbatched(fs, layout, 0.5, now + timedelta(days=1)).files == 2
    assert (position(fs, layout, 0), audit(fs, layout).violations) == (10, 0)
    expire_unbatched(fs, layout, 0.5, now + timedelta(days=9))  # the newest file says where to go on
    assert (len(files(fs, layout)), position(fs, layout, 0), audit(fs, layout).violations) == (1, 10, 0)
    lander.values(b"5").file()
    assert audit(fs, layout).violations == 0


def test_ledgers_of_batches_whose_raw_is_gone_are_rebuilt_from_what_was_kept(fs: FakeHdfs) -> None:
    expire(fs, LAYOUT, 5, LATER)
    before = ledgers(fs)
    wipe_ledgers(fs)
    assert rebuild(fs, LAYOUT).retired == 2
    assert ledgers(fs) == before


@pytest.mark.parametrize("step", range(14))
def test_retention_killed_at_any_step_is_ended_by_the_next_run(fs: FakeHdfs, step: int) -> None:
    steps = itertools.count()

    def kill(verb: str, path: str) -> None:
        if next(steps) >= step:
            raise KeyboardInterrupt

    fs.before = kill
    with contextlib.suppress(KeyboardInterrupt):
        expire(fs, LAYOUT, 5, LATER)
    fs.before = lambda verb, path: None
    assert not audit(fs, LAYOUT, deep=True).findings
    expire(fs, LAYOUT, 5, LATER)
    assert [len(files(fs, LAYOUT, p)) for p in (0, 1)] == [2, 2]
    assert not audit(fs, LAYOUT, deep=True).findings
    wipe_ledgers(fs)
    rebuild(fs, LAYOUT)
    assert ledger.load(fs, LAYOUT, cut(fs, "one")).published_balanced


def second_chance(fs: FakeHdfs) -> Redriven:
    """With no schema known nothing can be read, and so nothing is sent."""
    return redrive(fs, LAYOUT, SchemaRegistry(), lambda values: None)


def test_quarantine_of_whole_batches_goes_with_what_was_noted_of_it_and_the_audit_knows(fs: FakeHdfs) -> None:
    raw, marker = files(fs, LAYOUT), f"{LAYOUT.redriven(0)}/{SISTER.rsplit('/', 1)[1]}.json"
    fs.create(marker, [b'{"offsets": [8]}'], create_parents=True)
    Lander(fs, LAYOUT).values(UNREADABLE).file()  # of no batch yet
    dry = expire_quarantine(fs, LAYOUT, 5, LATER, dry_run=True)
    assert (dry.batches, dry.files, dry.records, SISTER in fs.files) == (["one", "two"], 2, 4, True)
    assert expire_quarantine(fs, LAYOUT, 5, LATER) == Expired(["one", "two"], 2, "three", 4)
    assert (SISTER in fs.files, marker in fs.files, files(fs, LAYOUT)[:4]) == (False, False, raw)
    found = audit(fs, LAYOUT, deep=True)
    assert (found.violations, found.partitions[0].quarantined) == (0, 3)
    assert second_chance(fs).quarantined == 1
    assert expire_quarantine(fs, LAYOUT, 5, LATER) == Expired(refused="three")


def test_a_quarantine_file_that_is_missing_after_where_quarantine_begins_is_a_violation(fs: FakeHdfs) -> None:
    expire_quarantine(fs, LAYOUT, 5, LATER)
    path = Lander(fs, LAYOUT).values(UNREADABLE).file()
    fs._remove(path.replace("/raw/", "/quarantine/"))
    (finding,) = audit(fs, LAYOUT).findings
    assert finding.text.startswith("offset 40 of p=0 should be in quarantine")


def test_quarantine_without_balance_stays(fs: FakeHdfs) -> None:
    curate(fs, cut(fs, "one"), invalid=1)
    assert expire_quarantine(fs, LAYOUT, 5, LATER) == Expired(refused="one")
    assert SISTER in fs.files


def test_a_quarantine_file_that_does_not_say_what_it_holds_is_kept_and_told(fs: FakeHdfs) -> None:
    fs._put(SISTER, b"nothing", 0)
    done = expire_quarantine(fs, LAYOUT, 5, LATER)
    assert (done.files, done.records, done.kept, SISTER in fs.files) == (1, 2, [SISTER], True)


def test_raw_and_quarantine_go_each_in_its_own_time(fs: FakeHdfs) -> None:
    expire(fs, LAYOUT, 5, LATER)
    assert SISTER in fs.files
    assert expire_quarantine(fs, LAYOUT, 5, LATER).files == 2
    assert not audit(fs, LAYOUT, deep=True).findings


@pytest.mark.parametrize("step", range(5))
def test_retention_of_quarantine_killed_at_any_step_is_ended_by_the_next_run(fs: FakeHdfs, step: int) -> None:
    fs.create(f"{LAYOUT.redriven(0)}/{SISTER.rsplit('/', 1)[1]}.json", [b'{"offsets": [8]}'], create_parents=True)
    steps = itertools.count()

    def kill(verb: str, path: str) -> None:
        if next(steps) >= step:
            raise KeyboardInterrupt

    fs.before = kill
    with contextlib.suppress(KeyboardInterrupt):
        expire_quarantine(fs, LAYOUT, 5, LATER)
    fs.before = lambda verb, path: None
    assert not audit(fs, LAYOUT, deep=True).findings
    assert second_chance(fs).before <= 1
    expire_quarantine(fs, LAYOUT, 5, LATER)
    assert (SISTER in fs.files, fs.names(LAYOUT.redriven(0)), second_chance(fs).quarantined) == (False, [], 0)


def test_what_goes_while_it_is_read_is_no_violation_and_no_error(fs: FakeHdfs) -> None:
    """Retention runs just after the audit, then redrive, have listed what is quarantined."""
    for look in (lambda: audit(fs, LAYOUT).violations, lambda: second_chance(fs).quarantined):
        kept, listed = dict(fs.files), fs.names

        def names(place: str, listed: Callable[[str], list[str]] = listed) -> list[str]:
            found = listed(place)
            if place == SISTER.rsplit("/", 1)[0]:
                fs.names = listed  # type: ignore[method-assign]
                assert expire_quarantine(fs, LAYOUT, 5, LATER).files == 2
            return found

        fs.names = names  # type: ignore[method-assign]
        assert (look(), SISTER in fs.files) == (0, False)
        for path, (data, changed) in kept.items():
            fs._put(path, data, changed)
        fs._remove(cuts.tree_start_path(LAYOUT, "quarantine"))
