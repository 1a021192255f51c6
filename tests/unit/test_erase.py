"""Somebody is forgotten in all that has landed, and nobody else; of the events themselves all else stays."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ingest.event import codec
from ingest.event.anonymise import ERASED, People, anonymised
from ingest.event.event import Page, as_dict
from storage.audit.topic import audit
from storage.formats.headers import read_info
from storage.formats.records import records
from storage.layout import Layout
from storage.upkeep.erasure import erase
from tests.fakes import FakeHdfs
from tests.support.compaction import LAYOUT, cut, run
from tests.support.events import minimal
from tests.support.landing import UNREADABLE, Lander, files, newer_event, rows

ASKED, NOW = 2_000, 9_000
ANN = People(users={"ann": ASKED}, visitors={"a-1": ASKED}, now=NOW)
PERSONAL = {"ann", "a-1", "s-1", "10.0.0.1", "order-1", "gclid-1", "secret", "https://shop/", "/of/", "msg-1"}


def clicked(message: str, received_at: int = 1_000, **fields: Any) -> bytes:
    """A purchase with all that can tell of a person, as Kafka's value."""
    told = {"anonymous_id": "b-2", "item_id": "i-1", "value": 3.5, "currency": "EUR", "occurred_at": 900}
    return codec.encode(minimal(message, event_type="purchase", received_at=received_at, **told | fields))


def everything(message: str = "msg-1", **fields: Any) -> bytes:
    personal = {
        "user_id": "ann",
        "anonymous_id": "a-1",
        "client_session_id": "s-1",
        "ip": "10.0.0.1",
        "order_id": "order-1",
        "campaign": {"click_id": "gclid-1"},
        "properties": {"note": '"secret"'},
        "page": Page(url="https://shop/?q=secret", path="/of/ann", referrer="https://shop/secret", title="Ann"),
    }
    return clicked(message, **personal | fields)


def found(fs: FakeHdfs, layout: Layout = LAYOUT) -> list[dict[str, Any]]:
    return [event for _, _, _, event in rows(fs, layout)]


@pytest.mark.parametrize("format_", ["avro", "parquet"])
def test_the_events_of_a_person_are_nobodys_and_those_of_others_are_as_they_were(format_: str) -> None:
    fs = FakeHdfs()
    lander = Lander(fs, LAYOUT, format_=format_)
    lander.values(clicked("other-1"), everything(), clicked("other-2"), everything("msg-2", anonymous_id="c-3")).file()
    untouched = lander.values(clicked("other-3")).file()
    before, header = found(fs), read_info(fs, files(fs, LAYOUT)[0])
    bytes_of_others = fs.files[untouched]
    done = erase(fs, LAYOUT.root, ANN)
    assert (done.records, done.files, done.failed) == (2, 1, {})
    after = found(fs)
    assert [after[0], after[2], after[4]] == [before[0], before[2], before[4]]
    assert fs.files[untouched] == bytes_of_others
    for event, old in ((after[1], before[1]), (after[3], before[3])):
        assert not {text for text in PERSONAL if text in json.dumps(event, default=str)}
        assert event["flags"] == [ERASED]
        kept = ("event_id", "event_type", "occurred_at", "received_at", "item_id", "value", "currency", "write_key")
        assert {name: event[name] for name in kept} == {name: old[name] for name in kept}
        assert set(event["page"].values()) == {None}
        assert dict(event["properties"]) == dict(event["campaign"]) == {}
    assert read_info(fs, files(fs, LAYOUT)[0]) == header
    assert not audit(fs, LAYOUT, deep=True).findings
    assert erase(fs, LAYOUT.root, ANN).records == 0  # again


@pytest.mark.parametrize("format_", ["avro", "parquet"])
def test_what_they_do_after_the_request_is_theirs_again(format_: str) -> None:
    fs = FakeHdfs()
    Lander(fs, LAYOUT, format_=format_).values(
        everything("at", received_at=ASKED),
        everything("later", received_at=ASKED + 1),
        everything("odd", received_at=NOW + 1),
    ).file()
    assert erase(fs, LAYOUT.root, ANN).records == 2
    assert [event["user_id"] for event in found(fs)] == [None, "ann", None]


def test_an_id_within_another_text_is_no_hit() -> None:
    fs = FakeHdfs()
    path = Lander(fs, LAYOUT).values(clicked("ann", anonymous_id="ann-marie", properties={"of": '"a-1"'})).file()
    before = fs.files[path]
    assert erase(fs, LAYOUT.root, ANN).records == 0
    assert fs.files[path] == before


def test_an_older_version_of_the_event_keeps_its_schema() -> None:
    fs = FakeHdfs()
    path = Lander(fs, LAYOUT).values(newer_event("x"), everything()).file()  # one file, of the newer schema
    fingerprint = read_info(fs, path).fingerprint
    assert erase(fs, LAYOUT.root, ANN).records == 1
    assert (read_info(fs, path).fingerprint, [event["added"] for event in found(fs)]) == (fingerprint, ["new", None])


def test_hidden_files_quarantine_and_other_topics_are_looked_at_too() -> None:
    fs = FakeHdfs()
    lander = Lander(fs, LAYOUT)
    for message in ("one", "two"):
        lander.values(everything(message)).file()
    cut(fs, "one", p0=2)
    assert run(fs).written == 1  # the small ones stay beside it for a while
    rejected = Layout(LAYOUT.root, "clicks.rejected")
    of_ann = json.dumps({"reason": "bad", "payload": {"user_id": "ann"}}).encode()
    of_others = json.dumps({"reason": "bad", "payload": {"user_id": "joann"}}).encode()
    Lander(fs, rejected, plain=True).values(of_ann, of_others, None).file()
    done = erase(fs, LAYOUT.root, ANN)
    assert (done.records, done.files) == (5, 4)
    assert [value for _, _, _, (_, value) in rows(fs, rejected)] == [None, of_others, None]
    assert not [path for path, (data, _) in fs.files.items() if b"ann" in data and "joann" not in str(data)]


@pytest.mark.parametrize(
    ("who", "told"),
    [
        ('jos\u00e9 "x"', {"user_id": 'jos\u00e9 "x"'}),
        ("42", {"traits": {"userId": 42}}),
        ("long-enough", 'broken { "user": "long-enough"'),
        ("long-enough", {"payload": json.dumps({"anything": "a long-enough text"})}),
    ],
)
def test_an_id_is_found_in_what_was_rejected_however_it_stands_there(who: str, told: Any) -> None:
    fs = FakeHdfs()
    rejected = Layout(LAYOUT.root, "clicks.rejected")
    Lander(fs, rejected, plain=True).values(json.dumps({"reason": "bad", "payload": told}).encode()).file()
    assert erase(fs, LAYOUT.root, People(users={who: 1 << 50}, visitors={}, now=1 << 51)).records == 1


def test_a_short_id_that_stands_for_something_else_is_no_hit() -> None:
    fs = FakeHdfs()
    Lander(fs, Layout(LAYOUT.root, "clicks.rejected"), plain=True).values(b'{"payload": {"quantity": "42"}}').file()
    assert erase(fs, LAYOUT.root, People(users={"42": 1 << 50}, visitors={}, now=1 << 51)).records == 0


def test_a_quarantined_record_is_found_by_its_key() -> None:
    fs = FakeHdfs()
    Lander(fs, LAYOUT).values(clicked("x"), UNREADABLE).file()  # all keys are `key`
    somebody = People(users={}, visitors={"key": 1 << 50}, now=1 << 51)
    assert erase(fs, LAYOUT.root, somebody).records == 1
    [path] = [path for path in fs.files if "/quarantine/" in path]
    assert [value for *_, value in records(fs, path)] == [(None, None)]


@pytest.mark.parametrize("format_", ["avro", "parquet"])
def test_a_file_that_does_not_read_back_takes_nobodys_place(format_: str) -> None:
    fs = FakeHdfs()
    path = Lander(fs, LAYOUT, format_=format_).values(everything(), clicked("x")).file()
    other = FakeHdfs()
    foreign = other.files[Lander(other, LAYOUT, format_=format_).values(clicked("y"), clicked("z")).file()][0]
    before, create = fs.files[path], fs.create
    fs.create = lambda where, chunks, create_parents=False: create(  # type: ignore[method-assign]
        where, [foreign if list(chunks) else b""], create_parents
    )
    if format_ == "parquet":
        foreign = foreign[:-9]
    done = erase(fs, LAYOUT.root, ANN)
    assert (done.records, list(done.failed)) == (0, [path])
    assert fs.files[path] == before
    assert not [name for name in fs.files if name.endswith(".tmp")]


@pytest.mark.parametrize("format_", ["avro", "parquet"])
def test_a_damaged_file_is_told_and_spares_the_others(format_: str) -> None:
    fs = FakeHdfs()
    lander = Lander(fs, LAYOUT, format_=format_)
    damaged, _ = lander.values(everything("one")).file(), lander.values(everything("two")).file()
    data, changed = fs.files[damaged]
    broken = data[:-3] if format_ == "avro" else data[:4] + b"\xff" * 400 + data[404:]
    fs.files[damaged] = broken, changed
    done = erase(fs, LAYOUT.root, ANN)
    assert (done.records, list(done.failed)) == (1, [damaged])


def test_anonymised_twice_is_anonymised_once() -> None:
    event = as_dict(codec.decode(everything()))
    assert anonymised(anonymised(event)) == anonymised(event)
