"""What each format of landed files owes, over all that are registered: a new one is tested by its line in FORMATS."""

from __future__ import annotations

import subprocess
import sys
from io import BytesIO

import pytest

from ingest.event import codec
from ingest.event.anonymise import ERASED, People
from storage.audit.topic import audit
from storage.batches import cuts, ledger
from storage.errors import ContainerError, StorageError
from storage.formats import FORMATS, format_of
from storage.formats.envelope import event_envelope
from storage.formats.file_info import FileInfo
from storage.formats.headers import read_info
from storage.formats.records import records
from storage.upkeep.erasure import erase
from tests.fakes import FakeHdfs
from tests.support.compaction import LAYOUT, run
from tests.support.events import minimal
from tests.support.landing import UNREADABLE, Lander, files, newer_event, rows

ANN = People(users={"ann": 2_000}, visitors={}, now=9_000)


def value(message: str, user: str | None = None) -> bytes:
    return codec.encode(minimal(message, user_id=user, received_at=1_000))


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_format_is_written_read_merged_and_erased_and_the_audit_finds_nothing(suffix: str) -> None:
    fs = FakeHdfs()
    lander = Lander(fs, LAYOUT, format_=suffix)
    paths = [
        lander.values(value("a"), value("b", "ann"), UNREADABLE).gap(2).file(),
        lander.values(value("c"), UNREADABLE).gap(1, "lost").file(),
        lander.values(value("d", "ann")).file(),
    ]
    ends = {0: lander.writer.end}
    assert all(path.endswith(f".{suffix}") and format_of(path) is FORMATS[suffix] for path in paths)
    first = read_info(fs, paths[0])
    fingerprint = codec.FINGERPRINT.hex()
    assert first == FileInfo("clicks", 0, 0, 4, 2, ((2, 2),), ((3, 4, "kafka"),), fingerprint, first.writer)
    before = rows(fs, LAYOUT)
    assert [(offset, event["message_id"]) for _, offset, _, event in before] == [(0, "a"), (1, "b"), (5, "c"), (8, "d")]
    quarantine = f"{LAYOUT.quarantine(0)}/{paths[0].split('/', 5)[-1]}"
    assert [body for *_, body in records(fs, quarantine)] == [(b"key", UNREADABLE)]

    cut = cuts.take(fs, LAYOUT, "one", lambda: ends)
    counted = ledger.current(fs, LAYOUT, cut)
    assert (counted.total("landed"), counted.total("quarantined"), counted.total("explained")) == (4, 2, 2)
    assert (counted.total("lost"), counted.landed_complete) == (1, True)
    done = run(fs, min_files=2, grace_seconds=0.0)
    assert (done.written, done.failed) == (1, {})
    assert len(files(fs, LAYOUT)) == 1
    assert rows(fs, LAYOUT) == before
    assert not audit(fs, LAYOUT, deep=True).findings

    assert erase(fs, LAYOUT.root, ANN).records == 4  # those in the parts that the larger file hides, too
    assert [ERASED in event["flags"] for *_, event in rows(fs, LAYOUT)] == [False, True, False, True]
    assert [row[:3] for row in rows(fs, LAYOUT)] == [row[:3] for row in before]
    assert not audit(fs, LAYOUT, deep=True).findings
    assert erase(fs, LAYOUT.root, ANN).records == 0


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_body_that_does_not_follow_its_schema_is_not_in_the_file_if_bodies_are_checked(suffix: str) -> None:
    file = FORMATS[suffix].writer(event_envelope(codec.SCHEMA), 0, "null", True)
    bodies = [codec.split(value("a"))[1], b"\x00", codec.split(value("b"))[1]]
    file.extend(5, [1, 1, 1], bodies, [None, b"k", None], sum(map(len, bodies)))
    assert file.finish() == 2
    assert [*file.unread] == [(6, 1, b"k", b"\x00")]
    data = b"".join(file.file(FileInfo("clicks", 0, 5, 7, 2, ((6, 6),))))
    assert [offset for _, offset, *_ in FORMATS[suffix].rows(BytesIO(data))] == [5, 7]


@pytest.mark.parametrize("suffix", FORMATS)
def test_files_of_two_schemas_lose_no_record_when_they_are_compacted(suffix: str) -> None:
    fs = FakeHdfs()
    lander = Lander(fs, LAYOUT, format_=suffix)
    for message in "ab":
        lander.values(value(message)).file()
    for message in "cd":
        lander.values(newer_event(message))
        while lander.writer.size or lander.writer.sealed:
            lander.file()
    cuts.take(fs, LAYOUT, "one", lambda: {0: lander.writer.end})
    before = rows(fs, LAYOUT)
    done = run(fs, min_files=2, grace_seconds=0.0)
    assert done.written >= 1
    assert not done.failed
    assert rows(fs, LAYOUT) == before
    assert not audit(fs, LAYOUT, deep=True).findings


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("damage", [lambda data: b"", lambda data: b"nothing", lambda data: data[: len(data) // 2]])
def test_a_damaged_file_is_told_with_its_path(suffix: str, damage: object) -> None:
    fs = FakeHdfs()
    path = Lander(fs, LAYOUT, format_=suffix).values(value("a", "ann"), value("b")).file()
    fs.files[path] = (damage(fs.files[path][0]), *fs.files[path][1:])  # type: ignore[operator]
    with pytest.raises(StorageError, match=path.rsplit("/", 1)[-1].replace("+", r"\+")):
        list(records(fs, path))
    done = erase(fs, LAYOUT.root, ANN)
    assert list(done.failed) == [path]
    with pytest.raises((StorageError, ContainerError)):
        FORMATS[suffix].merge(fs, [FORMATS[suffix].part(fs, path)], f"{path}.merged", "null")


def test_a_file_of_no_format_is_told_by_its_path() -> None:
    with pytest.raises(StorageError, match=r"a\.xml.*no reader for 'xml'"):
        format_of("/raw/a.xml")


def test_who_meets_no_file_in_columns_imports_no_library_for_them() -> None:
    code = (
        "import sys; from storage.formats import FORMATS, format_of; from storage.batches import ledger; "
        "assert 'avro' in FORMATS and len(FORMATS) >= 2 and 'xml' not in FORMATS; "
        "format_of('a.avro'); assert not {'pyarrow', 'datafusion'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
