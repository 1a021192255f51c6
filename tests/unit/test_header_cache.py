"""The cache of headers: what is read from files, and what an audit that uses it can find; in memory."""

from __future__ import annotations

import pytest

from ingest.event import codec
from storage.audit.topic import audit
from storage.batches import cuts, ledger
from storage.batches.header_cache import drop
from storage.errors import StorageError
from storage.formats.avro.writer import Container
from storage.formats.envelope import event_envelope
from storage.formats.file_info import FileInfo
from storage.layout import BUCKET, Layout
from tests.fakes import FakeHdfs
from tests.support.landing import UNREADABLE, Lander

LAYOUT = Layout("/root", "clicks")
MEMORY = f"{LAYOUT.header_cache}/p=00/b=0000000000.json"
MIDDLE = f"{LAYOUT.raw(0)}/{LAYOUT.file(0, 10, 19, 'avro')}"


@pytest.fixture
def fs() -> FakeHdfs:
    """Three files with quarantine and gaps, whose headers were read when the ledger counted them."""
    fs = FakeHdfs()
    lander = Lander(fs, LAYOUT)
    lander.events(8).values(UNREADABLE, UNREADABLE).file()
    lander.events(5).gap(3).gap(2, "lost").file()
    lander.events(10).file()
    cut = cuts.take(fs, LAYOUT, "one", lambda: {0: 30})
    ledger.record_landing(fs, LAYOUT, ledger.current(fs, LAYOUT, cut))
    assert len(read(fs)) == 3
    return fs


def read(fs: FakeHdfs) -> list[str]:
    """The files in raw that have been read since it was last asked."""
    found = [path for path in fs.reads if "/raw/" in path]
    fs.reads.clear()
    return found


def other(records: int) -> bytes:
    """A header that does not account for all of 10..19, unless it has ten records."""
    return b"".join(Container(event_envelope(codec.SCHEMA), 0, "null").file(FileInfo("clicks", 0, 10, 19, records)))


def test_what_the_ledger_has_read_no_audit_reads(fs: FakeHdfs) -> None:
    first = audit(fs, LAYOUT)
    assert (read(fs), first.headers_read, first.violations) == ([], 0, 0)


def test_a_batch_that_is_asked_for_again_is_read_only_where_something_came(fs: FakeHdfs) -> None:
    cut = cuts.take(fs, LAYOUT, "two", lambda: {0: 50})
    lander = Lander(fs, LAYOUT)
    first, second = [lander.events(10).file() for _ in range(2)]
    assert ledger.current(fs, LAYOUT, cut).landed_complete
    assert sorted(read(fs)) == [first, second]
    assert ledger.current(fs, LAYOUT, cut).landed_complete and read(fs) == []


def test_what_has_not_changed_is_not_read_again_and_proves_the_same(fs: FakeHdfs) -> None:
    first = audit(fs, LAYOUT, fresh=True)
    assert (len(read(fs)), first.headers_read) == (3, 3)
    again = audit(fs, LAYOUT)
    assert (read(fs), again.headers_read, again.violations) == ([], 0, 0)
    assert again.partitions == first.partitions
    newer = Lander(fs, LAYOUT).events(5).file()
    assert (audit(fs, LAYOUT).partitions[0].landed, read(fs)) == (28, [newer])
    assert audit(fs, LAYOUT, deep=True).headers_read == 4


@pytest.mark.parametrize("changed", [0, 1], ids=["another length", "another time"])
def test_a_file_that_another_has_replaced_is_read_again(fs: FakeHdfs, changed: int) -> None:
    content = other(9) + b"x" * (1 - changed)
    padded = content if not changed else content.ljust(len(fs.files[MIDDLE][0]), b"x")
    fs._put(MIDDLE, padded, fs.files[MIDDLE][1] + changed)
    assert "9 records and 0 others" in str(audit(fs, LAYOUT).findings)
    assert read(fs) == [MIDDLE]
    assert "9 records and 0 others" in str(audit(fs, LAYOUT).findings)  # remembered, and still no less wrong
    assert read(fs) == []


def test_only_fresh_finds_that_a_file_can_be_read_no_more_and_then_all_do(fs: FakeHdfs) -> None:
    content, changed = fs.files[MIDDLE]
    fs._put(MIDDLE, b"?" * len(content), changed)
    assert not audit(fs, LAYOUT).findings
    assert "not an Avro container" in audit(fs, LAYOUT, fresh=True).findings[0].text
    assert "not an Avro container" in audit(fs, LAYOUT).findings[0].text


def test_a_file_that_is_gone_is_missing_whatever_is_remembered(fs: FakeHdfs) -> None:
    fs._remove(MIDDLE)
    assert "offsets 10..19 of p=0 are in no visible file" in audit(fs, LAYOUT).findings[0].text


def test_of_buckets_whose_raw_is_gone_nothing_is_remembered(fs: FakeHdfs) -> None:
    drop(fs, LAYOUT, 0, BUCKET - 1)
    assert MEMORY in fs.files
    drop(fs, LAYOUT, 0, BUCKET)
    assert MEMORY not in fs.files


@pytest.mark.parametrize("garbled", [b"", b"[{", b'[{"name": "x"}]', b"\xff"])
def test_a_memory_that_is_garbled_is_made_anew(fs: FakeHdfs, garbled: bytes) -> None:
    whole = fs.files[MEMORY][0]
    fs._put(MEMORY, garbled, 0)
    assert audit(fs, LAYOUT).headers_read == 3
    assert fs.files[MEMORY][0] == whole


def test_who_may_not_write_proves_as_much_and_says_why_it_does_not_remember(fs: FakeHdfs) -> None:
    def refuse(verb: str, path: str) -> None:
        raise StorageError(path, "permission denied")

    fs._remove(MEMORY)
    fs.before = refuse
    found = audit(fs, LAYOUT)
    assert (found.violations, found.headers_read) == (0, 3)
    assert "permission denied" in str(found.uncached_reason)
