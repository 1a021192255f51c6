"""What the audit finds, and what it knows to be just a crash's remainder; on a file system in memory."""

from __future__ import annotations

from functools import cache

import pytest

from ingest.event import codec
from storage.audit.topic import Audit, audit
from storage.batches import cuts, ledger
from storage.formats.avro.writer import Container
from storage.formats.envelope import event_envelope, plain_envelope
from storage.formats.file_info import FileInfo, Gap
from storage.hdfs import Entry
from storage.layout import BUCKET, Layout, visible
from storage.upkeep.compaction import Group, write
from tests.fakes import FakeHdfs
from tests.support.events import event
from tests.support.landing import UNREADABLE, Lander

LAYOUT = Layout("/root", "clicks")
EPOCHS = LAYOUT.epochs(0)
GARBAGE = codec.MARKER + codec.FINGERPRINT + b"\xff\xff\xff"


@pytest.fixture
def fs() -> FakeHdfs:
    """Two partitions of three files each, with quarantine and gaps; a cut in a file, one at the end; both landed."""
    return two_batches().copy()


@cache
def two_batches() -> FakeHdfs:
    fs = FakeHdfs()
    for partition in (0, 1):
        lander = Lander(fs, LAYOUT, partition)
        lander.events(8).values(UNREADABLE, UNREADABLE).file()
        lander.events(5).gap(3).gap(2, "lost").file()
        lander.events(10).file()
    for name, end in (("one", 15), ("two", 30)):
        cut = cuts.take(fs, LAYOUT, name, lambda end=end: {0: end, 1: end})  # type: ignore[misc]
        ledger.record_landing(fs, LAYOUT, ledger.current(fs, LAYOUT, cut))
    return fs


def path(partition: int, first: int, last: int) -> str:
    return f"{LAYOUT.raw(partition)}/{LAYOUT.file(partition, first, last, 'avro')}"


def put(fs: FakeHdfs, path: str, data: bytes) -> None:
    fs.files.pop(path, None)
    fs.create(path, [data], create_parents=True)


def header_only(first: int, last: int, records: int, gaps: tuple[Gap, ...] = ()) -> bytes:
    container = Container(event_envelope(codec.SCHEMA), 0, "null")
    return b"".join(container.file(FileInfo("clicks", 0, first, last, records, (), gaps)))


def told(found: Audit) -> str:
    """The first violation."""
    return f"{found.findings[0].kind}: {found.findings[0].text}" if found.findings else ""


def test_history_in_order_is_proved_and_summed(fs: FakeHdfs) -> None:
    found = audit(fs, LAYOUT, deep=True)
    assert not found.findings
    assert found.partitions[0].facts() == {
        "first": 0,
        "end": 30,
        "files": 3,
        "landed": 23,
        "quarantined": 2,
        "explained": 3,
        "lost": 2,
        "remainders": 0,
    }
    assert (found.batches, found.events, found.distinct_ids) == (2, 46, 46)


def test_an_id_that_appears_twice_is_told_and_no_violation(fs: FakeHdfs) -> None:
    Lander(fs, LAYOUT).values(event("0-0"), event("fresh")).file()
    found = audit(fs, LAYOUT, deep=True)
    assert (found.violations, found.events, found.distinct_ids) == (0, 48, 47)


def test_a_missing_file_is_a_hole_between_its_neighbours(fs: FakeHdfs) -> None:
    fs._remove(path(0, 10, 19))
    found = audit(fs, LAYOUT)
    assert told(found) == "hole: offsets 10..19 of p=0 are in no visible file"
    assert found.findings[0].files == (path(0, 0, 9), path(0, 20, 29))
    assert found.kinds["ledger"] == 2  # both batches were complete


def test_a_missing_beginning_is_a_hole_and_a_missing_end_contradicts_the_ledger(fs: FakeHdfs) -> None:
    fs._remove(path(0, 0, 9))
    assert told(audit(fs, LAYOUT)).startswith("hole: offsets 0..9")
    fs._remove(path(1, 20, 29))
    assert "batch two, p=1: the ledger says complete, but differs from files: landed 10 but 0" in str(
        audit(fs, LAYOUT).findings
    )


def test_ranges_that_overlap_are_told_with_both_files(fs: FakeHdfs) -> None:
    put(fs, path(0, 15, 24), header_only(15, 24, 0, ((15, 24, "kafka"),)))
    found = audit(fs, LAYOUT)
    assert told(found) == "overlap: offsets 15..19 of p=0 are in two visible files"
    assert found.findings[0].files == (path(0, 10, 19), path(0, 15, 24))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (header_only(10, 19, 9), "9 records and 0 others do not account for 10..19"),
        (header_only(10, 18, 9), "its header says clicks p=0, 10..18"),
        (header_only(10, 19, 8, ((12, 13, "kafka"), (13, 13, "kafka"))), "spans overlap or leave the range at 13..13"),
        (b"nothing", "not an Avro container"),
    ],
)
def test_a_header_that_contradicts_its_name_or_itself_is_told(fs: FakeHdfs, data: bytes, reason: str) -> None:
    put(fs, path(0, 10, 19), data)
    assert reason in told(audit(fs, LAYOUT))


def test_strange_names_and_wrong_folders_are_told_but_not_hidden_ones(fs: FakeHdfs) -> None:
    bucket = f"{LAYOUT.raw(0)}/b=0000000000"
    put(fs, f"{bucket}/_clicks+0+x.rewrite.tmp", b"")
    assert not audit(fs, LAYOUT).findings
    for name in ("notes.txt", "other+0+0000000000000000100+0000000000000000109.avro"):
        put(fs, f"{bucket}/{name}", b"")
        assert told(audit(fs, LAYOUT)).startswith(f"name: {name} is no name")
        fs._remove(f"{bucket}/{name}")
    put(fs, f"{LAYOUT.raw(0)}/b=0000000001/" + path(0, 20, 29).rsplit("/", 1)[1], fs.files[path(0, 20, 29)][0])
    assert "in this folder" in str(audit(fs, LAYOUT).findings)


def test_quarantined_offsets_must_lie_in_quarantine(fs: FakeHdfs) -> None:
    sister = f"{LAYOUT.quarantine(0)}/{LAYOUT.file(0, 0, 9, 'avro')}"
    whole = fs.files[sister][0]
    container = Container(plain_envelope(), 0, "null")
    container.add(8, 1, b"\x00\x00")
    put(fs, sister, b"".join(container.file(FileInfo("clicks", 0, 0, 9, container.finish()))))
    assert told(audit(fs, LAYOUT)) == "quarantine: offset 9 of p=0 should be in quarantine, but no file there holds it"
    fs._remove(sister)
    assert "offset 8 of p=0 should be in quarantine" in told(audit(fs, LAYOUT))
    put(fs, sister, whole[:-8])
    assert told(audit(fs, LAYOUT)).startswith("quarantine: a block that does not end")
    put(fs, sister, whole)
    # A former owner died between sister and file; its successor's files have other ranges.
    put(fs, f"{LAYOUT.quarantine(0)}/{LAYOUT.file(0, 0, 6, 'avro')}", header_only(0, 6, 0))
    assert not audit(fs, LAYOUT).findings


def test_a_file_of_an_epoch_is_a_remainder_unless_it_holds_what_nobody_shows(fs: FakeHdfs) -> None:
    beyond, landed = (fs.files[path(0, 20, 29)][0], fs.files[path(0, 10, 19)][0])
    put(fs, f"{EPOCHS}/e=3/token/" + path(0, 30, 39).rsplit("/", 1)[1], beyond)  # being written, or read again
    put(fs, f"{EPOCHS}/fenced/e=2/token/" + path(0, 20, 29).rsplit("/", 1)[1], beyond)  # read again, and landed
    put(fs, f"{EPOCHS}/fenced/e=2/token/q+" + path(0, 20, 29).rsplit("/", 1)[1], beyond)
    found = audit(fs, LAYOUT)
    assert (found.violations, found.partitions[0].remainders) == (0, 2)

    unpublished = f"{EPOCHS}/fenced/e=1/token/" + path(0, 10, 19).rsplit("/", 1)[1]
    lander = Lander(FakeHdfs(), LAYOUT)
    lander.gap(10)
    lander.writer.seal("age")
    lander.writer.sealed.clear()
    complete = lander.events(10).writer
    complete.seal("age")
    put(fs, unpublished, b"".join(complete.sealed[0].chunks))
    found = audit(fs, LAYOUT)
    assert told(found) == (
        "unpublished: offset 18 of p=0 is said to be lost, but a file that was never published holds it"
    )
    assert found.findings[0].files == (path(0, 10, 19), unpublished)
    put(fs, unpublished, landed[: len(landed) // 2])  # its owner died while it wrote
    assert not audit(fs, LAYOUT).findings
    put(fs, unpublished, b"".join(complete.sealed[0].chunks))
    fs._remove(path(0, 10, 19))
    found = audit(fs, LAYOUT)
    assert told(found).endswith("in no visible file; some are in a file that was never published")
    assert unpublished in found.findings[0].files


def test_a_chain_of_cuts_that_breaks_is_told(fs: FakeHdfs) -> None:
    first, second = (f"{LAYOUT.cuts}/chain/{number:019d}.json" for number in (1, 2))
    whole = fs.files[second][0]
    put(fs, second, whole.replace(b'"starts": {\n  "0": 15', b'"starts": {\n  "0": 14'))
    assert "cut two: p=0 goes from 14 to 30 after 15" in told(audit(fs, LAYOUT))
    put(fs, second, whole)
    named = f"{LAYOUT.cuts}/one.json"
    put(fs, named, whole)
    assert told(audit(fs, LAYOUT)) == "chain: cut one is not what its file by name says"
    fs._remove(named)
    assert told(audit(fs, LAYOUT)) == "chain: cut one is not what its file by name says"
    put(fs, named, fs.files[first][0])
    fs._remove(f"{LAYOUT.cuts}/two.json")  # its taker died: whoever comes next repairs it
    assert not audit(fs, LAYOUT).findings
    fs._remove(first)
    assert "it is number 2 after 0" in told(audit(fs, LAYOUT))


def test_a_ledger_that_says_complete_is_held_against_the_files(fs: FakeHdfs) -> None:
    place = ledger.path(LAYOUT, "one")
    put(fs, place, fs.files[place][0].replace(b'"landed": 13', b'"landed": 12', 1))
    # Landed 12 of 15 with two quarantined is not complete, and so claims nothing.
    assert not audit(fs, LAYOUT).findings
    put(fs, place, fs.files[place][0].replace(b'"quarantined": 2', b'"quarantined": 3', 1))
    assert "batch one, p=0: the ledger says complete" in told(audit(fs, LAYOUT))


def test_only_deep_finds_a_body_that_is_garbage_under_a_right_fingerprint(fs: FakeHdfs) -> None:
    place = Lander(fs, LAYOUT).events(3).values(GARBAGE, event("a"), event("b")).file()
    assert not audit(fs, LAYOUT).findings
    found = audit(fs, LAYOUT, deep=True)
    assert found.findings[0].files == (place,)
    assert told(found).startswith("record: at offset 33:")


@pytest.mark.parametrize("end", [b"", b"\x00" * 5])
def test_garbage_that_decodes_by_chance_is_noticed_at_its_end(fs: FakeHdfs, end: bytes) -> None:
    body = codec.split(event("x"))[1]
    short = codec.MARKER + codec.FINGERPRINT + (body + end if end else body[:-1])
    Lander(fs, LAYOUT).values(event("a"), short, event("b")).file()
    found = audit(fs, LAYOUT, deep=True)
    assert found.violations == 1
    assert "31" in told(found) or "32" in told(found)


def test_deep_finds_records_of_other_offsets_and_too_few_or_too_many(fs: FakeHdfs) -> None:
    body = codec.split(event("x"))[1]
    for offsets, text in (
        ([20, 22, 21], "after offset 20: a record of p=0, offset 22 instead of 21"),
        ([20, 21], "it ends before offset 22"),
        ([20, 21, 22, 23], "after offset 22: a record of p=0, offset 23 instead of None"),
    ):
        container = Container(event_envelope(codec.SCHEMA), 0, "null")
        for offset in offsets:
            container.add(offset, 1, body)
        container.finish()
        info = FileInfo("clicks", 0, 20, 29, 3, (), ((23, 29, "kafka"),), codec.FINGERPRINT.hex())
        put(fs, path(0, 20, 29), b"".join(container.file(info)))
        assert text in str([f.text for f in audit(fs, LAYOUT, deep=True).findings])


def test_deep_finds_a_schema_that_is_not_the_fingerprints(fs: FakeHdfs) -> None:
    place = path(0, 20, 29)
    put(fs, place, fs.files[place][0].replace(codec.FINGERPRINT.hex().encode(), b"0" * 16))
    assert "has not the fingerprint 0000000000000000" in told(audit(fs, LAYOUT, deep=True))


def test_files_compacted_away_while_it_reads_are_found_in_the_larger_one(fs: FakeHdfs) -> None:
    folder = f"{LAYOUT.raw(0)}/b=0000000000"
    parts = tuple(visible(fs.names(folder)))
    gone = False
    listed = fs.list

    def entries(place: str) -> list[Entry]:
        nonlocal gone
        found = listed(place)
        if place == folder and not gone:
            gone = True
            write(fs, LAYOUT, Group(folder, 0, parts, (0,) * len(parts)), "null")
            for part in parts[1:]:
                fs._remove(f"{folder}/{part.name}")
        return found

    fs.list = entries  # type: ignore[method-assign]
    found = audit(fs, LAYOUT, deep=True)
    assert not found.findings
    assert (found.partitions[0].landed, found.events) == (23, 46)


def test_files_published_into_a_bucket_that_was_listed_are_not_a_hole() -> None:
    fs = FakeHdfs()
    lander = Lander(fs, LAYOUT)
    lander.gap(BUCKET - 20).file()
    lander.events(10).file()
    late = path(0, BUCKET - 10, BUCKET - 1)
    lander.events(10).file()
    lander.events(5).file()
    hidden = fs.files[late]
    fs._remove(late)
    listed, seen = fs.list, 0

    def entries(place: str) -> list[Entry]:
        nonlocal seen
        found = listed(place)
        if place.endswith("b=0000000000") and "/raw/" in place:
            seen += 1
            if seen == 1:
                fs._put(late, *hidden)
        return found

    fs.list = entries  # type: ignore[method-assign]
    found = audit(fs, LAYOUT)
    assert (found.violations, found.partitions[0].end) == (0, BUCKET + 5)
