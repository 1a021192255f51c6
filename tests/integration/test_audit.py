"""Audit and ledger on a real HDFS, of files that the sink's own writer made, and without any Kafka."""

from __future__ import annotations

import pytest

from infra.settings import Settings
from ingest.event import codec
from storage.audit.topic import audit
from storage.batches import cuts, ledger
from storage.hdfs import Hdfs
from storage.layout import Layout
from storage.sink.epochs import claim_epoch
from tests.support.commands import facts, run
from tests.support.corners import own_corner
from tests.support.events import event
from tests.support.landing import UNREADABLE, Lander, files
from tests.support.ports import free_ports


@pytest.fixture
def corner(cluster_settings: Settings) -> Settings:
    """A corner of the real HDFS; of Kafka there is nothing at its address."""
    own = own_corner(cluster_settings)
    nobody = {"port": free_ports()["kafka"]["port"], "properties": {"socket.timeout.ms": "1000"}}
    return own.model_copy(update={"kafka": own.kafka.model_copy(update=nobody)})


def land_some(fs: Hdfs, layout: Layout) -> None:
    for partition in (0, 1):
        lander = Lander(fs, layout, partition)
        lander.events(20).values(UNREADABLE).file()
        lander.events(9).gap(10).file()
    for name, end in (("one", 15), ("two", 40)):
        cuts.take(fs, layout, name, lambda end=end: {0: end, 1: end})  # type: ignore[misc]


def test_the_commands_prove_history_and_know_it_when_kafka_does_not(corner: Settings, fs: Hdfs, layout: Layout) -> None:
    land_some(fs, layout)
    proved = run(corner, "audit", "--deep", "--json")
    found = facts(proved)
    assert (proved.exit_code, found["violations"], found["events"], found["distinct_ids"]) == (0, 0, 58, 58)
    assert found["partitions"]["1"]["quarantined"] == 1
    assert "every offset is accounted for exactly once" in run(corner, "audit").stdout
    assert [facts(run(corner, "audit", *how, "--json"))["headers_read"] for how in ([], ["--fresh"])] == [0, 4]

    one = cuts.get(fs, layout, "one")
    ledger.record_publish(fs, layout, one, {0: (15, 0, 0), 1: (14, 1, 0)})
    every = facts(run(corner, "ledger", "--all", "--json"))
    assert [(b["batch"], b["landed"], b["published_balanced"]) for b in every["batches"]] == [
        ("one", 30, True),
        ("two", 28, False),
    ]
    assert "2 of 2 balanced" in run(corner, "ledger", "--all").stdout
    before = {name: fs.read(ledger.path(layout, name)) for name in ("one", "two")}
    for name in before:
        fs.delete(ledger.path(layout, name))
    assert facts(run(corner, "ledger", "rebuild", "--json"))["written"] == 2
    assert {name: fs.read(ledger.path(layout, name)) for name in before} == before
    assert "0 ledgers written" in run(corner, "ledger", "rebuild").stdout


def test_the_first_violation_is_told_with_its_files(corner: Settings, fs: Hdfs, layout: Layout) -> None:
    land_some(fs, layout)
    fs.delete(files(fs, layout, 1)[0])
    found = run(corner, "audit")
    assert found.exit_code == 1
    assert "violation (hole): offsets 0..20 of p=1 are in no visible file" in found.stdout
    assert files(fs, layout, 1)[0] in found.stdout
    many = facts(run(corner, "audit", "--json"))
    assert (many["violations"], many["findings"][0]["files"]) == (1, files(fs, layout, 1))
    Lander(fs, Layout(layout.root, "another"), plain=True).values(b"1").file()
    assert facts(run(corner, "audit", "--topic", "another", "--json"))["violations"] == 0
    assert "nothing to audit" in str(run(corner, "audit", "--topic", "typo").exception)


def test_garbage_under_a_right_fingerprint_is_found_deep_with_file_and_offset(fs: Hdfs, layout: Layout) -> None:
    lander = Lander(fs, layout)
    lander.events(100).values(codec.MARKER + codec.FINGERPRINT + b"\xff\xff", *[event("x")] * 50)
    path = lander.file()
    assert not audit(fs, layout).findings
    (finding,) = audit(fs, layout, deep=True).findings
    assert (finding.kind, finding.files) == ("record", (path,))
    assert finding.text.startswith("at offset 100:")


def test_what_an_epoch_holds_is_a_remainder(fs: Hdfs, layout: Layout) -> None:
    land_some(fs, layout)
    epoch = claim_epoch(fs, layout, 0)
    name = files(fs, layout)[0].rsplit("/", 1)[1]
    epoch.create(name, [fs.read(files(fs, layout)[0])])
    found = audit(fs, layout)
    assert (found.violations, found.partitions[0].remainders, found.partitions[1].remainders) == (0, 1, 0)
    claim_epoch(fs, layout, 0)  # empties it
    assert audit(fs, layout).partitions[0].remainders == 0


def test_a_file_larger_than_what_is_read_ahead_is_read_whole(fs: Hdfs, layout: Layout) -> None:
    Lander(fs, layout, codec_="null").events(30_000).file()
    found = audit(fs, layout, deep=True)
    assert (found.violations, found.events, found.distinct_ids) == (0, 30_000, 30_000)


def test_an_open_file_can_be_read_from_anywhere(fs: Hdfs, layout: Layout) -> None:
    path = Lander(fs, layout, codec_="null").events(20_000).file()
    whole = fs.read(path)
    with fs.open(path) as file:
        for at in (len(whole) // 2, 0, len(whole) - 4):
            assert (file.seek(at), file.read(4)) == (at, whole[at : at + 4])
        assert file.seek(-4, 2) == len(whole) - 4
        with pytest.raises(ValueError, match="there is no byte"):
            file.seek(len(whole) + 1)
